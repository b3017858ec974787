"""What an experiment is: typed, read from YAML, locked against unknown keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tpr.learner import LossWeights
from tpr.views import Views


class ConfigError(ValueError):
    """A configuration that can't run; the message says why."""


@dataclass
class NetworkConfig:
    """Which backbone, and its own options."""

    name: str = "s"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Optimization:
    """How long and how fast.

    Attributes:
        steps: updates in all.
        batch: pairs an update.
        points: points a pair.
        rate: peak learning rate of AdamW; linear warm-up, then a half cosine to zero.
        warmup: steps of warm-up.
        momentum: τ of the target encoder at the start; a half cosine takes it to 1.
        strength: (first, last) strength of the views; it grows linearly over the first half.
    """

    steps: int = 8000
    batch: int = 16
    points: int = 128
    rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 5.0
    momentum: float = 0.99
    strength: tuple[float, float] = (0.3, 1.0)


@dataclass
class Config:
    """A whole experiment."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    views: Views = field(default_factory=Views)
    loss: LossWeights = field(default_factory=LossWeights)
    optimization: Optimization = field(default_factory=Optimization)
    sharpening: float = 0.5
    validation_share: float = 0.08
    validation_pairs: int = 96
    validation_size: int = 160
    seed: int = 0


def load_config(name: str = "s", overrides: list[str] | None = None) -> Config:
    """Read a configuration.

    Args:
        name: one of the shipped ones (`s`, ...), or a path of a YAML file.
        overrides: "key=value" with dotted keys, e.g. "optimization.steps=1000".

    Raises:
        ConfigError: no such file, an unknown key or a value of the wrong type; the message names it.
    """
    shipped = files("tpr.configs") / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        raise ConfigError(f"no configuration '{name}': neither shipped nor a file")
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(Config),
            OmegaConf.create(path.read_text()),
            OmegaConf.from_dotlist(overrides or []),
        )
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {str(error).splitlines()[0]}") from error

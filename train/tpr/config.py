"""Experiment configuration: typed, read from YAML, unknown keys refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tpr.method import LossWeights, Method
from tpr.views import Views


class ConfigError(ValueError):
    """A configuration that can't run; the message says why."""


@dataclass
class NetworkConfig:
    """The backbone and its options."""

    name: str = "s"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Optimization:
    """Length, batch, rate and schedules of the optimization.

    Attributes:
        steps: updates in all.
        batch: pairs an update, over all processes.
        rate: peak learning rate of AdamW; linear warm-up, then a half cosine to zero.
        warmup: steps of warm-up.
        momentum: τ of the target encoder at the start; a half cosine takes it to 1.
        strength: (first, last) strength of the views.
        alpha: (first, last) α of the soft labels; both grow linearly over the first half: the curriculum.
        generations: how many generations the steps are divided into, for `method.labels=generation`.
    """

    steps: int = 8000
    batch: int = 16
    rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 5.0
    momentum: float = 0.99
    strength: tuple[float, float] = (0.3, 1.0)
    alpha: tuple[float, float] = (0.0, 1.0)
    generations: int = 3


@dataclass
class Validation:
    """What is held out for validation, and the pairs of views made of it.

    Attributes:
        share: of the photos that is held out.
        pairs: pairs of views, always the same.
        size: side of the views, pixels.
        sites: the share of the sites of fixed cameras that is held out, with all photos of their cameras.
        hours: pairs of views of these cameras at two hours, of `hours_size` pixels a side.
        every: steps from one validation, and row of the log, to the next.
    """

    share: float = 0.08
    pairs: int = 96
    size: int = 160
    sites: float = 0.25
    hours: int = 48
    hours_size: int = 320
    every: int = 200


@dataclass
class Run:
    """Resources, checkpoints and logs; a resumed run may change any of it.

    Attributes:
        minutes: from one checkpoint to the next, at least; 0 writes one each step.
        least_rank: training stops where the effective rank falls below this share of the dimension, after the warm-up.
        least_spread: or where the descriptors of an image are so much the same (mean squared distance from their mean).
        tensorboard: write curves for TensorBoard to `<out>.curves/`.
        prefetch: draw the next views in a second thread.
        bfloat16, compile: run the encoders in bfloat16, through torch.compile: for GPUs.
        channels_last: keep channels innermost in memory.
        vocabulary: centres of the descriptors that are stored with the weights, for retrieval; 0: those of `start`.
    """

    minutes: float = 3.0
    least_rank: float = 0.05
    least_spread: float = 0.02
    tensorboard: bool = True
    prefetch: bool = True
    bfloat16: bool = False
    compile: bool = False
    channels_last: bool = True
    vocabulary: int = 64


@dataclass
class Config:
    """A whole experiment.

    Attributes:
        start: weights to start from instead of random ones, of the same network; "" for none.
        cameras: a regular expression that finds the fixed camera's name in a photo's path (see `tpr.cameras`).
        seed: of everything that is random.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    views: Views = field(default_factory=Views)
    loss: LossWeights = field(default_factory=LossWeights)
    method: Method = field(default_factory=Method)
    optimization: Optimization = field(default_factory=Optimization)
    validation: Validation = field(default_factory=Validation)
    run: Run = field(default_factory=Run)
    start: str = ""
    cameras: str = ""
    seed: int = 0


def load_config(name: str = "s", overrides: list[str] | None = None) -> Config:
    """Read a configuration.

    Args:
        name: one of the shipped ones (`s`, ...), or a path of a YAML file.
        overrides: "key=value" with dotted keys, e.g. "optimization.steps=1000".

    Raises:
        ConfigError: no such file, an unknown key, or a value that can't be; the message names it.
    """
    shipped = files("tpr.configs") / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(x.name[:-5] for x in files("tpr.configs").iterdir() if x.name.endswith(".yaml")))
        raise ConfigError(f"no configuration '{name}': neither shipped ({known}) nor a YAML file")
    for override in overrides or []:
        if "=" not in override:
            raise ConfigError(f"'{override}': write key=value, e.g. optimization.steps=1000")
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(Config),
            OmegaConf.create(path.read_text()),
            OmegaConf.from_dotlist(overrides or []),
        )
        config = cast(Config, OmegaConf.to_object(merged))
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())[:200]}") from error
    check(config)
    return config


def check(config: Config) -> None:
    """Check that the values make sense.

    Raises:
        ConfigError: the first key whose value makes no sense, and which would.
    """
    plan, views, run = config.optimization, config.views, config.run
    rules = [
        (plan.steps >= 1, "optimization.steps must be at least 1"),
        (plan.batch >= 1, "optimization.batch must be at least 1"),
        (plan.rate > 0, "optimization.rate must be above 0"),
        (0 <= plan.momentum < 1, "optimization.momentum must be in [0, 1)"),
        (all(0 <= x <= 1 for x in plan.strength), "optimization.strength must be two numbers in [0, 1]"),
        (all(x >= 0 for x in plan.alpha), "optimization.alpha must be two numbers of at least 0"),
        (plan.generations >= 1, "optimization.generations must be at least 1"),
        (views.size >= 48, "views.size must be at least 48 pixels"),
        (0 <= views.warp.relief <= 0.1, "views.warp.relief must be in [0, 0.1]: beyond, points hide each other"),
        (views.warp.perspective <= 0.5, "views.warp.perspective must be at most 0.5: beyond, views fold over"),
        (views.light.local_gamma > 0, "views.light.local_gamma must be above 0"),
        (views.warp.zoom >= 1, "views.warp.zoom must be at least 1"),
        (0 < views.warp.scale[0] <= views.warp.scale[1], "views.warp.scale must be two ascending numbers above 0"),
        (0 <= views.same_camera_fraction <= 1, "views.same_camera_fraction must be in [0, 1]"),
        (0 <= views.landmark_fraction <= 1, "views.landmark_fraction must be in [0, 1]"),
        (
            8 <= config.method.points <= views.size**2 // 32,
            f"method.points must be in [8, views.size² / 32], at most {views.size**2 // 32} here",
        ),
        (config.method.temperature > 0, "method.temperature must be above 0"),
        (config.method.order >= 2 and config.method.order % 2 == 0, "method.order must be an even number above 0"),
        (config.method.directions >= 1, "method.directions must be at least 1"),
        (0 <= config.method.weighted_after <= 1, "method.weighted_after must be in [0, 1]"),
        (0 <= config.method.fixed_after <= 1, "method.fixed_after must be in [0, 1]"),
        (config.method.sharpening > 0, "method.sharpening must be above 0"),
        (all(x >= 0 for x in vars(config.loss).values()), "loss.*: no weight may be below 0"),
        (any(vars(config.loss).values()), "loss.*: one of the weights must be above 0"),
        (0 < config.validation.share < 1, "validation.share must be between 0 and 1"),
        (config.validation.pairs >= 1 and config.validation.every >= 1, "validation.pairs and .every must be above 0"),
        (config.validation.size >= 48, "validation.size must be at least 48 pixels"),
        (0 <= config.validation.sites < 1, "validation.sites must be at least 0 and below 1"),
        (config.validation.hours >= 1, "validation.hours must be at least 1"),
        (config.validation.hours_size >= 48, "validation.hours_size must be at least 48 pixels"),
        (run.minutes >= 0, "run.minutes must be at least 0"),
        (run.vocabulary >= 0, "run.vocabulary must be at least 0"),
    ]
    for holds, message in rules:
        if not holds:
            raise ConfigError(message)
    try:
        re.compile(config.cameras)
    except re.error as error:
        raise ConfigError(f"cameras='{config.cameras}' is not a regular expression: {error}") from error


def plain(config: Config) -> dict[str, Any]:
    """A configuration as nested dictionaries of plain values."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True))


def differences(one: dict, other: dict, prefix: str = "") -> list[str]:
    """The dotted keys by which two plain configurations differ."""
    found = []
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} ({a} then, {b} now)")
    return found

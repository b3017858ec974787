"""A run between two steps, on disk: written whole or not at all, and read by the same experiment alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from tpr.config import ConfigError, differences


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace a checkpoint by a state of tensors and plain values."""
    partial = path.with_suffix(".checkpoint.partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_checkpoint(path: Path, config: dict[str, Any], photos: str, processes: int) -> dict[str, Any]:
    """The state of a run with this configuration (but for its `run`), these photos and as many processes.

    Raises:
        ConfigError: it is damaged, or of another experiment.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"{path}: not a whole checkpoint; delete it to begin anew") from error
    other = differences({**state["config"], "run": None}, {**config, "run": None})
    if other:
        raise ConfigError(f"{path} is of another configuration: {'; '.join(other[:3])}")
    if state["photos"] != photos:
        raise ConfigError(f"{path} is of other photos than there are now")
    if state["processes"] != processes:
        raise ConfigError(f"{path} is of a run with {state['processes']} processes; give as many")
    return state

"""The whole chain from photos to a map, ours with any features or COLMAP's own, stage by stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import tpsfm

STAGES = ("features", "matches", "map")


@dataclass(frozen=True)
class Limits:
    """What each chain is held to; `weights` are those of tpr, None for the shipped ones."""

    max_keypoints: int = 8192
    max_size: int = 1600
    threads: int = 2
    seed: int = 0
    weights: Path | None = None

    def options(self, features: str) -> dict:
        """Of `tpsfm.reconstruct` with the features of that name."""
        return {"features": features, **asdict(self), "weights": self.weights if features == "tpr" else None}


def reconstruct(features: str, images: Path, out: Path, limits: Limits) -> tuple[Path, dict[str, float]]:
    """Map photos with the features of that name, or by COLMAP's own SIFT chain for "colmap".

    Returns:
        The map's folder, and seconds by `STAGES`; the geometry of the matches counts as matches.

    Raises:
        TpsfmError: no map came out.
    """
    if features == "colmap":
        from tpsfm.colmap.baseline import reconstruct_sift

        return reconstruct_sift(images, out, limits.max_keypoints, limits.max_size, limits.threads, limits.seed)
    workspace = tpsfm.reconstruct(images, out, **limits.options(features))
    seconds = {name: stage["seconds"] for name, stage in workspace.manifest["stages"].items()}
    middle = seconds["pairs"] + seconds["match"] + seconds["verify"]
    return workspace.sparse, dict(zip(STAGES, (seconds["extract"], middle, seconds["map"]), strict=True))

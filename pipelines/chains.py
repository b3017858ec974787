"""The whole chain from photos to a map, ours with any features or COLMAP's own, stage by stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click

import tpsfm

STAGES = ("features", "matches", "map")
CHAINS = [  # options of a benchmark of whole chains side by side
    click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of sets."),
    click.option(
        "--features", multiple=True, default=("tpr", "sift", "colmap"), show_default=True, help="May be repeated."
    ),
    click.option("--scene", "scenes", multiple=True, help="Only this set; may be repeated."),
    click.option("--weights", type=click.Path(path_type=Path), help="Weights of tpr; the shipped ones if left out."),
    click.option("--max-keypoints", default=8192, show_default=True),
    click.option("--max-size", default=1600, show_default=True),
    click.option("--threads", default=2, show_default=True),
    click.option("--seed", default=0, show_default=True),
    click.option("--out", type=click.Path(path_type=Path), help="Folder of results.json and results.md."),
]


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

"""From photos to a map: our chain with any features, COLMAP's own, or triangulation from known poses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import click

import tpsfm
from tpsfm.features.base import MAX_KEYPOINTS, MAX_SIZE
from tpsfm.geometry import Model
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs import selection as pairs
from tpsfm.progress import Progress, Terminal
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.mapping import triangulate
from tpsfm.reconstruction.matching import Matching
from tpsfm.reconstruction.report import write_results
from tpsfm.reconstruction.stage import Done, Stage, chosen_pairs, key_of

STAGES = ("features", "matches", "map", "align")


@dataclass(frozen=True)
class Limits:
    """Limits that all chains share; `weights` are those of tpr, None for the shipped ones."""

    max_keypoints: int = MAX_KEYPOINTS
    max_size: int = MAX_SIZE
    threads: int = 2
    seed: int = 0
    weights: Path | None = None

    def options(self, features: str) -> dict:
        """Of `tpsfm.reconstruct` with the features of that name."""
        return {"features": features, **asdict(self), "weights": self.weights if features == "tpr" else None}


LIMITS = [
    click.option("--weights", type=click.Path(path_type=Path), help="Weights of tpr; the shipped ones if left out."),
    click.option("--max-keypoints", default=Limits.max_keypoints, show_default=True),
    click.option("--max-size", default=Limits.max_size, show_default=True, help="Longer side, pixels."),
]
CHAINS = [  # options of a benchmark of whole chains side by side
    click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of sets."),
    click.option(
        "--features", multiple=True, default=("tpr", "sift", "colmap"), show_default=True, help="May be repeated."
    ),
    click.option("--scene", "scenes", multiple=True, help="Only this set; may be repeated."),
    *LIMITS,
    click.option("--threads", default=Limits.threads, show_default=True),
    click.option("--seed", default=Limits.seed, show_default=True),
    click.option("--out", type=click.Path(path_type=Path), help="Folder of results.json and results.md."),
]


def reconstruct(features: str, images: Path, out: Path, limits: Limits) -> tuple[Path, dict[str, float]]:
    """Map photos with the features of that name, or by COLMAP's own SIFT chain for "colmap".

    Returns:
        The map's folder, and seconds by `STAGES`, where the geometry of the matches counts as matches; COLMAP's chain
        aligns nothing.

    Raises:
        TpsfmError: no map came out.
    """
    if features == "colmap":
        from tpsfm.colmap.baseline import reconstruct_sift

        return reconstruct_sift(images, out, limits.max_keypoints, limits.max_size, limits.threads, limits.seed)
    workspace = tpsfm.reconstruct(images, out, **limits.options(features))
    seconds = {name: stage["seconds"] for name, stage in workspace.manifest["stages"].items()}
    middle = seconds["pairs"] + seconds["match"] + seconds["verify"]
    parts = seconds["extract"], middle, seconds["map"], seconds["align"]
    return workspace.sparse, dict(zip(STAGES, parts, strict=True))


@dataclass(frozen=True, kw_only=True)
class Triangulation(Stage):
    """The stage that takes the place of verification and mapping where cameras and poses are known."""

    name: ClassVar[str] = "map"
    title: ClassVar[str] = "map"

    known: Model

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        poses = {
            name: [pose.rotation.tolist(), pose.translation.tolist(), self.known.cameras[pose.camera_id].params]
            for name, pose in self.known.images.items()
        }
        key = digest([key_of(workspace, Matching, "tpsfm match"), poses, self.seed])
        if self._is_done(workspace, key, workspace.sparse / "images.bin"):
            return None
        triangulate(workspace, self.known, workspace.sparse, chosen_pairs(workspace), self.seed, self.threads)
        return Done(key, 1, counts={"models": 1})


def map_known(
    root: Path,
    images: Path,
    known: Model,
    paired: Callable[[list[str]], Iterable[tuple[str, str]]],
    stages: Stages,
) -> Workspace:
    """Map photos with known cameras and poses: extract, match and triangulate. Finished stages are kept.

    Args:
        root: folder of the workspace.
        images: folder that the photos' names are relative to; it may hold others.
        known: their cameras and poses.
        paired: the pairs to match, of the photos that could be read.
        stages: of the features and matches.
    """
    workspace = Workspace.open(root, create=True)
    photos = root / "images"
    chosen, progress = root / "chosen.txt", Terminal()
    with workspace.locked():
        shutil.rmtree(photos, ignore_errors=True)
        for name in known.images:
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / name).symlink_to((images / name).resolve())
        stages = Stages.of(**stages.options | {"pairs": "file", "pairs_file": chosen})
        stages.record(workspace, photos)
        stages.features.run(workspace, progress)
        names = workspace.manifest["photos"]
        pairs.write_pairs(chosen, paired(names))
        stages.pairs.run(workspace, progress)
        stages.matching.run(workspace, progress)
        known = replace(known, images={name: known.images[name] for name in names})
        last = Triangulation(known=known, seed=stages.mapping.seed, threads=stages.mapping.threads)
        last.run(workspace, progress)
        write_results(workspace)
    return workspace

"""From photos to a map: our chain with any features, COLMAP's own, or triangulation from known poses."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

import tpsfm
from tpsfm import colmap
from tpsfm.geometry.model import Model
from tpsfm.io.store import FeatureStore, MatchStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs import selection as pairs
from tpsfm.progress import Terminal
from tpsfm.reconstruction import Options, run_stage
from tpsfm.reconstruction.report import finish

STAGES = ("features", "matches", "map")


@dataclass(frozen=True)
class Limits:
    """Limits that all chains share; `weights` are those of tpr, None for the shipped ones."""

    max_keypoints: int = 8192
    max_size: int = 1600
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


def map_known(
    root: Path,
    images: Path,
    known: Model,
    paired: Callable[[list[str]], Iterable[tuple[str, str]]],
    options: Options,
) -> Workspace:
    """Map photos with known cameras and poses: extract, match and triangulate. Finished stages are kept.

    Args:
        root: folder of the workspace.
        images: folder that the photos' names are relative to; it may hold others.
        known: their cameras and poses.
        paired: the pairs to match, of the photos that could be read.
        options: of the features and matches.
    """
    workspace = Workspace.open(root, create=True)
    photos = root / "images"
    chosen, progress = root / "chosen.txt", Terminal()
    with workspace.locked():
        shutil.rmtree(photos, ignore_errors=True)
        for name in known.images:
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / name).symlink_to((images / name).resolve())
        options = replace(options, pairs="file", pairs_file=chosen)
        run_stage("extract", workspace, options, photos, progress)
        names = workspace.manifest["photos"]
        pairs.write_pairs(chosen, paired(names))
        run_stage("pairs", workspace, options, photos, progress)
        run_stage("match", workspace, options, photos, progress)
        known = replace(known, images={name: known.images[name] for name in names})
        poses = {
            name: [pose.rotation.tolist(), pose.translation.tolist(), known.cameras[pose.camera_id].params]
            for name, pose in known.images.items()
        }
        key = digest([workspace.manifest["stages"]["match"]["key"], poses, options.seed])
        if workspace.is_done("map", key) and (workspace.sparse / "images.bin").exists():
            return workspace
        workspace.start("map")
        start = time.perf_counter()
        with FeatureStore(workspace.features) as features, MatchStore(workspace.matches) as matches:
            colmap.triangulate(
                known,
                workspace.database,
                photos,
                workspace.sparse,
                features.read_keypoints,
                ((a, b, matches.read(a, b)[0]) for a, b in pairs.read_pairs(workspace.pairs, names)),
                seed=options.seed,
                threads=options.threads,
            )
        workspace.finish("map", key, time.perf_counter() - start, models=1)
        finish(workspace)
    return workspace

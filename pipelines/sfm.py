"""Reconstruct sets of photos with several features side by side, COLMAP's own SIFT chain among them.

    python -m pipelines.sfm --data DIR --features tpr --features sift --features colmap --out results/sfm

Each subfolder SCENE with SCENE/images/ is reconstructed; where it has a SCENE/gt.json (image name -> R, world to
camera, and C, the centre), the pose AUC follows: over all pairs of photos, the larger of the errors of the relative
rotation and of the direction of the translation, in degrees; a photo left out counts as wrong. "error" and "median"
are of the points' mean reprojection errors, "kept" is the share of the observations that alignment keeps. All have the
same limits. Run again with the same --out, an interrupted run resumes.
"""

from __future__ import annotations

import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np

import tpsfm
from pipelines.chains import CHAINS, STAGES, Limits, reconstruct
from pipelines.common import Pipeline, Results, in_process, weights_version
from tpsfm.cli.options import options
from tpsfm.colmap import read_model
from tpsfm.evaluation.poses import load_poses, pose_auc, pose_errors
from tpsfm.geometry import Pose, summary
from tpsfm.io.workspace import Workspace
from tpsfm.photos import list_images

THRESHOLDS = (1, 3, 5, 10)
COLUMNS = {
    **{"photos": "d", "registered": "d", "points": "d", "track": ".2f"},
    **{"error px": ".3f", "median px": ".3f", "kept %": ".1f"},
    **{f"AUC@{threshold}": ".1f" for threshold in THRESHOLDS},
    **{f"{stage} s": ".1f" for stage in STAGES},
    **{"whole s": ".1f", "peak MiB": ".0f"},
}


def measure(features: str, scene: Path, out: Path, limits: Limits) -> dict:
    """One set's row; "failure" is the error of a set that gives no map."""
    images: dict[str, Pose] = {}
    seconds: dict[str, float] = {}
    failure = {}
    row: dict[str, float | None] = {"photos": len(list_images(scene / "images")), "registered": 0}
    try:
        (folder, seconds), peak = in_process(reconstruct, features, scene / "images", out, limits)
        model = read_model(folder)
        images, figures = model.images, summary(model)
        row |= {
            "registered": len(images),
            "points": figures["points"],
            "track": figures["mean_track_length"],
            "error px": figures["reprojection_error"],
            "median px": float(np.median(model.errors)),
            "kept %": kept(out),
            "whole s": sum(seconds.values()),
            "peak MiB": peak,
        }
    except tpsfm.TpsfmError as error:
        failure = {"failure": str(error).split(";")[0]}
    if (scene / "gt.json").exists():
        auc = pose_auc(pose_errors(load_poses(scene / "gt.json"), images), THRESHOLDS)
        row |= {f"AUC@{threshold}": 100 * value for threshold, value in zip(THRESHOLDS, auc, strict=True)}
    return row | {f"{stage} s": value for stage, value in seconds.items()} | failure


def kept(out: Path) -> float | None:
    """The share of a map's observations that alignment kept, in per cent; None for COLMAP's chain, which has none."""
    if not (out / "run.json").exists():
        return None
    counts = Workspace.open(out).manifest["stages"]["align"]["counts"]
    return 100 * counts["kept"] / counts["observations"]


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@options(CHAINS)
def main(data: Path, features: tuple[str, ...], scenes: tuple[str, ...], out: Path | None, **limits: Any) -> None:
    folders = [data / name for name in scenes] or sorted(path for path in data.glob("*") if path.is_dir())
    missing = [folder for folder in folders if not (folder / "images").is_dir()]
    if missing or not folders:
        raise tpsfm.TpsfmError(f"no folder '{missing[0] / 'images' if missing else data / '*/images'}'")
    results = Results(out, "Structure from motion", limits | {"weights": weights_version(limits["weights"])})
    rows = {}
    for folder, name in product(folders, features):
        with tempfile.TemporaryDirectory() as workspace:
            job = partial(measure, name, folder, Path(workspace), Limits(**limits))
            rows[f"{folder.name}, {name}"] = results.row(f"{folder.name}, {name}", job)
    results.table(COLUMNS, rows)
    for key, row in rows.items():
        if "failure" in row:
            results.say(f"{key}: {row['failure']}")
    results.write()


if __name__ == "__main__":
    main()

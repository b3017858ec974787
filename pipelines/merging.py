"""Halves of a set of photos mapped apart and merged, beside all mapped at once.

    python -m pipelines.merging --data DIR --scene fountain-P11 --out results/merging

Each subfolder SCENE has images/ and gt.json (see `pipelines.sfm`; `pipelines.georeference` leaves such of a flight in
its --out). "first and last" are halves in the order of the names, which overlap at their ends alone, or where a flight
crosses itself; "every second" are interleaved. "cm" is the median error of camera centres after a similarity, where the
truth is in metres.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

import tpsfm
from pipelines.common import Pipeline, Results
from tpsfm.colmap import read_model
from tpsfm.evaluation.poses import aligned_errors, load_poses, pose_auc, pose_errors
from tpsfm.io.workspace import Workspace
from tpsfm.photos import list_images
from tpsfm.reconstruction.merging import merge

COLUMNS = {"registered": "d", "error px": ".3f", "seam points": "d", "seam px": ".3f"}
COLUMNS |= {f"AUC@{threshold}": ".1f" for threshold in (1, 3, 5)} | {"cm": ".2f", "refused": ""}


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the scenes.")
@click.option("--scene", "scenes", multiple=True, default=("fountain-P11",), show_default=True, help="May be repeated.")
@click.option("--max-keypoints", type=click.IntRange(1), default=8192, show_default=True, help="A photo.")
@click.option("--threads", type=int, default=-1, show_default=True, help="-1: all cores.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of results.json and results.md.")
def main(data: Path, scenes: tuple[str, ...], max_keypoints: int, threads: int, out: Path | None) -> None:
    results = Results(out, "Merged maps", {"max_keypoints": max_keypoints})
    limits = {"max_keypoints": max_keypoints, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        for scene in scenes:
            names = list_images(data / scene / "images")
            middle = (len(names) + 1) // 2
            splits = {
                "all at once": (names,),
                "first and last, merged": (names[:middle], names[middle:]),
                "every second, merged": (names[::2], names[1::2]),
            }
            for label, parts in splits.items():
                key = f"{scene}, {label}"
                results.row(key, partial(measure, data / scene, parts, Path(folder) / key.replace(" ", "_"), limits))
    results.table(COLUMNS)
    results.write()


def measure(scene: Path, parts: tuple[list[str], ...], out: Path, limits: dict[str, Any]) -> dict:
    """One line of the table."""
    try:
        maps = [_map(scene, names, out / str(number), limits) for number, names in enumerate(parts)]
        workspace = maps[0] if len(maps) == 1 else merge(maps[0].root, maps[1].root, out / "merged")
    except tpsfm.TpsfmError as error:
        return {"refused": str(error)}
    model, counts = read_model(workspace.sparse), workspace.manifest["stages"]["map"]["counts"]
    truth = load_poses(scene / "gt.json")
    auc = pose_auc(pose_errors(truth, model.images), (1, 3, 5))
    return {
        "registered": len(model.images),
        "error px": float(model.errors.mean()),
        "seam points": counts.get("seam_points"),
        "seam px": counts.get("seam_error"),
        **{f"AUC@{threshold}": 100 * value for threshold, value in zip((1, 3, 5), auc, strict=True)},
        "cm": 100 * float(np.median(aligned_errors(truth, model.images)[0])),
    }


def _map(scene: Path, names: list[str], out: Path, limits: dict[str, Any]) -> Workspace:
    for name in names:
        photo = out / "images" / name
        photo.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scene / "images" / name, photo)
    return tpsfm.reconstruct(out / "images", out / "map", **limits)


if __name__ == "__main__":
    main()

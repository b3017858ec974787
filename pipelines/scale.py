"""Time, memory and error of the whole chain against the number of photos.

    python -m pipelines.scale --out results/scale

Photos are rendered on walks through one courtyard, the denser the more there are, so that pairs come by retrieval. A
row is made in a process of its own, and resumed where it was killed; its seconds are those of the stages' own clocks.
Centimetres and degrees are medians over the photos, the map aligned with the known cameras.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import numpy as np

import tpsfm
from pipelines.common import Pipeline, Results, in_process, weights_version
from tpsfm.colmap import read_model
from tpsfm.demo.dataset import render_scene
from tpsfm.evaluation.poses import aligned_errors, load_poses
from tpsfm.io.workspace import Workspace
from tpsfm.progress import Terminal

SIZE = (640, 480)
STAGES = ("turns", "extract", "pairs", "match", "verify", "map", "align")
COLUMNS = {
    **{"registered": "d", "pairs": "d", "mapper": ""},
    **{f"{stage} s": ".1f" for stage in STAGES},
    **{"all s": ".0f", "s a photo": ".2f", "peak MiB": ".0f", "cm": ".2f", "degrees": ".3f"},
}


def render(out: Path, photos: int) -> Path:
    """Write out/photos_N/images and gt.json, unless they are there."""
    folder = out / f"photos_{photos}"
    if not folder.exists():
        part = out / f"part_{photos}"
        with Terminal().bar("render", photos) as update:
            render_scene(part, photos, SIZE, progress=lambda done: update(done, photos))
        part.rename(folder)
    return folder


def reconstruct(scene: Path, root: Path, options: dict) -> None:
    tpsfm.reconstruct(scene / "images", root, progress=Terminal(), **options)


def measure(out: Path, photos: int, options: dict) -> dict:
    """The row of so many photos."""
    scene, root = render(out, photos), out / f"map_{photos}"
    _, peak = in_process(reconstruct, scene, root, options)
    return figures(root, scene / "gt.json", photos) | {"peak MiB": peak}


def figures(root: Path, truth: Path, photos: int) -> dict:
    """What a finished run says of itself, and its true error."""
    stages = Workspace.open(root).manifest["stages"]
    seconds = {f"{stage} s": stages.get(stage, {}).get("seconds", 0.0) for stage in STAGES}
    whole = sum(seconds.values())
    found = read_model(root / "sparse").images
    metres, degrees = aligned_errors(load_poses(truth), found)
    return {
        "registered": len(found),
        "pairs": stages["match"]["counts"]["pairs"],
        "mapper": stages["map"]["counts"]["mapper"],
        **seconds,
        "all s": whole,
        "s a photo": whole / photos,
        "cm": 100 * float(np.median(metres)),
        "degrees": float(np.median(degrees)),
    }


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option(
    "--photos", type=click.IntRange(2), multiple=True, default=(250, 500, 1000, 2000), show_default=True,
    help="May be repeated.",
)  # fmt: skip
@click.option("--features", default="tpr", show_default=True)
@click.option("--max-keypoints", default=2048, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Local Dask workers instead of threads.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of all results.")
def main(photos: tuple[int, ...], out: Path, **options: str | int) -> None:
    made_with = {**options, "weights": weights_version(None)}
    results = Results(out, "Growth of the chain with the number of photos", made_with)
    lines = {f"{count} photos": results.row(f"{count}", partial(measure, out, count, options)) for count in photos}
    results.table(COLUMNS, lines)
    results.write()


if __name__ == "__main__":
    main()

"""Time, memory and error of the whole chain against the number of photos.

    python -m pipelines.scale --out results/scale

Photos are rendered on walks through one courtyard, the denser the more there are, so that pairs come by retrieval. A
row is made in a process of its own, and resumed where it was killed; its seconds are those of the stages' own clocks.
Centimetres and degrees are medians over the photos, the map aligned with the known cameras.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

import click
import numpy as np

import tpsfm
from pipelines.common import Pipeline, Results, in_process, weights_version
from tpsfm.colmap import read_model
from tpsfm.colmap.baseline import reconstruct_sift
from tpsfm.demo.dataset import render_scene
from tpsfm.evaluation.poses import aligned_errors, load_poses
from tpsfm.io.workspace import Workspace
from tpsfm.pairs.selection import Pair
from tpsfm.progress import Terminal
from tpsfm.reconstruction.stage import chosen_pairs

SIZE = (640, 480)
STAGES = ("turns", "extract", "pairs", "match", "verify", "map", "align", "lookalikes")
RESULT = {"registered": "d", "pairs": "d", "mapper": "", "peak MiB": ".0f", "MiB": ".0f", "cm": ".2f", "degrees": ".3f"}
TIMES = {
    "seconds": {**{f"{stage} s": ".1f" for stage in STAGES}, "all s": ".0f", "s a photo": ".2f"},
    "processor seconds": {**{f"{stage} cpu": ".1f" for stage in STAGES}, "all cpu": ".0f", "cpu a photo": ".2f"},
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


def measure_colmap(out: Path, photos: int, options: dict) -> dict:
    """The row of COLMAP's own chain, of SIFT on the CPU, on the pairs that ours chose."""
    scene, root = out / f"photos_{photos}", out / f"colmap_{photos}"
    (sparse, seconds, cpu), peak = in_process(
        reconstruct_colmap, scene, root, chosen_pairs(Workspace.open(out / f"map_{photos}")), options
    )
    spent = dict(zip(("extract s", "match s", "map s"), seconds.values(), strict=True))
    whole = sum(spent.values())
    totals = {"all s": whole, "s a photo": whole / photos, "all cpu": cpu, "cpu a photo": cpu / photos}
    return errors(sparse, scene / "gt.json") | spent | totals | {"mapper": "incremental", "peak MiB": peak}


def reconstruct_colmap(
    scene: Path, root: Path, pairs: list[Pair], options: dict
) -> tuple[Path, dict[str, float], float]:
    shutil.rmtree(root, ignore_errors=True)  # COLMAP would keep what a killed run left there
    limits = {name: options[name] for name in ("max_keypoints", "threads")}
    sparse, seconds = reconstruct_sift(scene / "images", root, **limits, pairs=pairs)
    return sparse, seconds, time.process_time()


def figures(root: Path, truth: Path, photos: int) -> dict:
    """What a finished run says of itself, and its true error."""
    stages = Workspace.open(root).manifest["stages"]
    times: dict[str, float] = {}
    for unit, key in {"s": "seconds", "cpu": "cpu"}.items():
        spent = {f"{stage} {unit}": stages.get(stage, {}).get(key, 0.0) for stage in STAGES}
        whole = sum(spent.values())
        times |= spent | {f"all {unit}": whole, f"{unit} a photo": whole / photos}
    return {
        **errors(root / "sparse", truth),
        "pairs": stages["match"]["counts"]["pairs"],
        "mapper": stages["map"]["counts"]["mapper"],
        **times,
        "MiB": sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) / 2**20,
    }


def errors(model: Path, truth: Path) -> dict:
    found = read_model(model).images
    metres, degrees = aligned_errors(load_poses(truth), found)
    return {"registered": len(found), "cm": 100 * float(np.median(metres)), "degrees": float(np.median(degrees))}


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option(
    "--photos", type=click.IntRange(2), multiple=True, default=(250, 500, 1000, 2000), show_default=True,
    help="May be repeated.",
)  # fmt: skip
@click.option("--features", default="tpr", show_default=True)
@click.option("--max-keypoints", default=2048, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Local Dask workers instead of threads.")
@click.option("--colmap", type=int, multiple=True, help="Also COLMAP's chain with so many photos; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of all results.")
def main(photos: tuple[int, ...], colmap: tuple[int, ...], out: Path, **options: str | int) -> None:
    made_with = {**options, "weights": weights_version(None)}
    results = Results(out, "Growth of the chain with the number of photos", made_with)
    lines = {f"{count} photos": results.row(f"{count}", partial(measure, out, count, options)) for count in photos}
    lines |= {
        f"COLMAP, {count}": results.row(f"colmap {count}", partial(measure_colmap, out, count, options))
        for count in colmap
    }
    results.table(RESULT, lines)
    for text, columns in TIMES.items():
        results.say(f"{text.capitalize()} by stage:")
        results.table(columns, lines)
    results.write()


if __name__ == "__main__":
    main()

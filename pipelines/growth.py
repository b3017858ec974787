"""Time of a query against the size of the map: the same queries in maps of 1, 10, 100 ... rendered courtyards.

    python -m pipelines.growth --out results/growth

The town is a row of different courtyards, 100 m apart, each with ten photos; a map of N photos holds the first N / 10.
Its cameras and poses are the rendered ones, its points are triangulated. All queries are taken in the first courtyard,
the same for every map. Milliseconds and centimetres are medians over the queries; "first image" is the share whose
first retrieved image shows their courtyard.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from itertools import combinations, groupby
from pathlib import Path

import click
import numpy as np

import tpsfm
from pipelines.calibration import SIZE, random_views
from pipelines.chains import map_known
from pipelines.common import Pipeline, Results, in_process, weights_version
from pipelines.localization import STEPS
from tpsfm.demo.dataset import camera_path, render_scene
from tpsfm.demo.rendering import View
from tpsfm.geometry import Camera, Model, Pose
from tpsfm.progress import Terminal
from tpsfm.reconstruction import Stages

PHOTOS = 10  # of a courtyard
APART = np.array([100.0, 0, 0])  # metres from one courtyard to the next
COLUMNS = {
    **{"photos": "d", "points": "d", "localized": "d", "first image": ".1f", "position cm": ".2f"},
    **{f"{step} ms": ".1f" for step in STEPS},
    **{"query ms": ".0f", "load s": ".2f", "peak MiB": ".0f"},
}


def walk(courtyard: int) -> dict[str, View]:
    """The cameras of a courtyard's photos by name, in that courtyard's frame."""
    return {f"{i:02d}.jpg": view for i, view in enumerate(camera_path(PHOTOS, SIZE, courtyard))}


def render(out: Path, courtyards: int, queries: int) -> None:
    """Write out/town/COURTYARD/*.jpg and out/queries/*.jpg, unless they exist."""
    sights = [(out / "town" / f"{i:04d}", i, walk(i)) for i in range(courtyards)]
    asked = {f"{i:03d}.jpg": view for i, view in enumerate(random_views(queries, seed=0))}
    sights.append((out / "queries", 0, asked))
    with Terminal().bar("render") as update:
        for done, (folder, seed, cameras) in enumerate(sights, 1):
            if not folder.exists():
                made = render_scene(out / "part", size=SIZE, seed=seed, cameras=cameras)
                folder.parent.mkdir(parents=True, exist_ok=True)
                made.rename(folder)
            update(done, len(sights))


def town(courtyards: int) -> Model:
    """The cameras and poses of a town, without points."""
    images, first = {}, walk(0)["00.jpg"]
    for courtyard in range(courtyards):
        for name, view in walk(courtyard).items():
            centre = view.C + courtyard * APART
            images[f"{courtyard:04d}/{name}"] = Pose(1, view.R, -view.R @ centre)
    focal, principal = first.K[0, 0], first.K[:2, 2]
    camera = Camera("SIMPLE_PINHOLE", *first.size, [float(focal), *principal.tolist()])
    return Model.of_cameras({1: camera}, images)


def neighbours(names: list[str]) -> list[tuple[str, str]]:
    """All pairs of photos of one courtyard."""
    return [pair for _, group in groupby(sorted(names), lambda name: name[:4]) for pair in combinations(group, 2)]


def localize(workspace: Path, queries: Path) -> dict:
    """The result and seconds by step of each query; each is localized twice, and the second time counts."""
    start = time.perf_counter()
    loaded = tpsfm.Map(workspace)
    row = {
        "load s": time.perf_counter() - start,
        "photos": len(loaded.model.images),
        "points": len(loaded.model.points),
    }
    for _ in range(2):
        found = [loaded.localize(path) for path in sorted(queries.iterdir())]
    truth = random_views(len(found), seed=0)
    errors = [
        np.inf if result.pose is None else np.linalg.norm(result.pose.center - view.C)
        for result, view in zip(found, truth, strict=True)
    ]
    return row | {
        "error": errors,
        "first": [result.retrieved[0].split("/")[0] for result in found],
        "seconds": {step: [result.seconds[step] for result in found] for step in STEPS},
    }


def measure(out: Path, courtyards: int, stages: Stages) -> dict:
    """Make a map of `courtyards` courtyards and localize the queries in it."""
    root = out / f"{stages.features.features}_{courtyards}"
    map_known(root, out / "town", town(courtyards), neighbours, stages)
    row, peak = in_process(localize, root, out / "queries")
    return row | {"peak MiB": peak}


def summary(row: Mapping) -> dict:
    """The table's line for a row."""
    errors = np.array([np.inf if error is None else error for error in row["error"]])
    seconds = {step: np.array(values) for step, values in row["seconds"].items()}
    return {
        **{name: row[name] for name in ("photos", "points", "load s", "peak MiB")},
        "localized": int(np.isfinite(errors).sum()),
        "first image": 100 * float(np.mean([courtyard == "0000" for courtyard in row["first"]])),
        "position cm": 100 * float(np.median(errors)),
        **{f"{step} ms": 1000 * float(np.median(values)) for step, values in seconds.items()},
        "query ms": 1000 * float(np.median(sum(seconds.values()))),
    }


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--features", multiple=True, default=("tpr",), show_default=True, help="May be repeated.")
@click.option(
    "--courtyards", type=click.IntRange(1), multiple=True, default=(1, 10, 100), show_default=True,
    help="In the map; may be repeated.",
)  # fmt: skip
@click.option("--queries", default=50, show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of tpr; the shipped ones if left out.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of all results.")
def main(features: tuple[str, ...], courtyards: tuple[int, ...], queries: int, weights: Path | None, out: Path) -> None:
    results = Results(out, "Growth of a query's time", {"queries": queries, "weights": weights_version(weights)})
    render(out, max(courtyards), queries)
    lines = {}
    for name in features:
        stages = Stages.of(features=name, weights=weights if name == "tpr" else None)
        for count in courtyards:
            key = f"{name}, {PHOTOS * count} photos"
            lines[key] = summary(results.row(key, partial(measure, out, count, stages)))
    results.table(COLUMNS, lines)
    results.write()


if __name__ == "__main__":
    main()

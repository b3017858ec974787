"""Calibration of the reported uncertainty: errors of rendered queries with known poses.

    python -m pipelines.calibration --queries 200 --out results/calibration

A courtyard is rendered along a walk, whose photos are mapped, and from random places between, in front of and above it,
whose photos are localized. The map is aligned with the known poses of its photos. "inside" is the share of the
localized queries whose true error is within the reported 95 % uncertainty: it should be 95 %.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np

import tpsfm
from pipelines.common import Pipeline, Results, weights_version
from tpsfm.demo.dataset import camera_path, render_scene
from tpsfm.demo.rendering import View, look_at
from tpsfm.evaluation.localization import align_map, localization_errors
from tpsfm.evaluation.poses import load_poses
from tpsfm.photos import list_images

SIZE = (640, 480)
COLUMNS = {
    **{"queries": "d", "localized": "d", "position cm": ".2f", "rotation °": ".3f"},
    **{"position inside": ".1f", "rotation inside": ".1f", "error / uncertainty": ".2f"},
}


def random_views(count: int, seed: int) -> list[View]:
    """Cameras at random places in the ring between the walk's two passes, looking at the courtyard."""
    rng = np.random.default_rng([seed, 3])
    walk = camera_path(2, SIZE, seed)[0]
    views = []
    for _ in range(count):
        angle, distance = np.radians(rng.uniform(-42, 52)), rng.uniform(7, 10)
        centre = np.array([distance * np.sin(angle), -1.2 - distance * np.cos(angle), rng.uniform(1.5, 3.6)])
        target = np.array([0.3 * centre[0], -0.8, 2.8]) + rng.normal(0, 0.5, 3)
        views.append(replace(walk, R=look_at(centre, target, rng.normal(0, 0.05)), C=centre))
    return views


def render(out: Path, views: int, queries: int, seed: int) -> None:
    """Write out/map, out/queries and out/gt.json."""
    cameras = {f"map_{i:03d}.jpg": view for i, view in enumerate(camera_path(views, SIZE, seed))}
    cameras |= {f"query_{i:03d}.jpg": view for i, view in enumerate(random_views(queries, seed))}
    images = render_scene(out, size=SIZE, seed=seed, cameras=cameras)
    for folder in ("map", "queries"):
        (out / folder).mkdir()
    for name in cameras:
        (images / name).rename(out / ("map" if name.startswith("map") else "queries") / name)


def measure(features: str, views: int, queries: int, seed: int, weights: Path | None) -> dict:
    """True errors of every query, metres and degrees, and the reported uncertainties."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        render(out, views, queries, seed)
        own = weights if features == "tpr" else None
        workspace = tpsfm.reconstruct(out / "map", out / "out", features=features, seed=seed, weights=own)
        loaded = tpsfm.Map(workspace.root)
        names = list_images(out / "queries")
        found = {name: loaded.localize(out / "queries" / name) for name in names}
        truth, mapped = load_poses(out / "gt.json"), loaded.model.images
    position, rotation = localization_errors(truth, mapped, {name: result.pose for name, result in found.items()})
    scale = align_map(truth, mapped).scale
    return {
        "position": position,
        "rotation": rotation,
        "position uncertainty": [scale * result.position_uncertainty for result in found.values()],
        "rotation uncertainty": [result.rotation_uncertainty for result in found.values()],
        "inliers": [result.inliers for result in found.values()],
    }


def summary(row: dict) -> dict:
    """The table's line for a row."""
    values = {key: np.array([np.nan if x is None else x for x in value], float) for key, value in row.items()}
    good = np.isfinite(values["position"])
    position, rotation, allowed, turn = (
        values[key][good] for key in ("position", "rotation", "position uncertainty", "rotation uncertainty")
    )
    return {
        "queries": len(good),
        "localized": int(good.sum()),
        "position cm": 100 * float(np.median(position)),
        "rotation °": float(np.median(rotation)),
        "position inside": 100 * float(np.mean(position <= allowed)),
        "rotation inside": 100 * float(np.mean(rotation <= turn)),
        "error / uncertainty": float(np.median(position / allowed)),
    }


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--features", multiple=True, default=("tpr", "sift"), show_default=True, help="May be repeated.")
@click.option("--views", default=40, show_default=True, help="Photos in the map.")
@click.option("--queries", default=200, show_default=True)
@click.option("--scenes", default=1, show_default=True, help="Courtyards, each with that many queries.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of tpr; the shipped ones if left out.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of results.json and results.md.")
def main(features: tuple[str, ...], views: int, queries: int, scenes: int, weights: Path | None, out: Path) -> None:
    options = {"views": views, "queries": queries, "weights": weights_version(weights)}
    results = Results(out, "Calibration", options)
    lines = {}
    for name in features:
        rows = []
        for seed in range(scenes):
            key = f"{name}, courtyard {seed}"
            rows.append(results.row(key, partial(measure, name, views, queries, seed, weights)))
            lines[key] = summary(rows[-1])
        lines[f"{name}, all"] = summary({key: [x for row in rows for x in row[key]] for key in rows[0]})
    results.table(COLUMNS, lines)
    results.write()


if __name__ == "__main__":
    main()

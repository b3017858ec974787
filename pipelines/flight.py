"""A flight over fields, rendered: strips there and back, and strips across them; what is registered, and how exactly.

    python -m pipelines.flight --features tpr --features sift --out results/flight

The camera looks down from 60 m onto 160 x 120 m of fields with paths, furrows and bushes. It flies strips to and fro
without turning back the camera, so that every second strip is turned by 180°, then strips across, turned by 90° and
270°; a wind turns each photo by a few degrees more. Errors are those of camera centres after a similarity onto the
true ones.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

import tpsfm
from pipelines.common import Pipeline, Results, in_process
from tpsfm.colmap import read_model
from tpsfm.demo.dataset import FOCAL_35MM, write_photo, write_truth
from tpsfm.demo.rendering import View
from tpsfm.evaluation.poses import aligned_errors, load_poses, pose_auc, pose_errors

HEIGHT = 60.0  # metres of the camera above the ground
FIELD = (160.0, 120.0)  # metres
TEXELS = 10  # a metre
COLUMNS = {
    **{"photos": "d", "registered": "d", "turned": "d", "points": "d", "track": ".2f", "error px": ".3f"},
    **{"cm": ".1f", "AUC@1": ".1f", "AUC@5": ".1f", "whole s": ".1f", "peak MiB": ".0f"},
}


def ground(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Texture uint8 [h, w, 3] and height in metres float32 [h, w] of the fields, `TEXELS` a metre."""
    rng = np.random.default_rng(seed)
    size = (int(FIELD[0] * TEXELS), int(FIELD[1] * TEXELS))

    def noise(cells: int) -> np.ndarray:
        small = rng.standard_normal((max(2, cells * 3 // 4), cells)).astype(np.float32)
        return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)

    detail = np.sum([noise(cells) * cells**-0.35 for cells in (20, 80, 320, 1280)], axis=0)
    relief = 1.5 * noise(6) + 0.4 * noise(24)
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32) / TEXELS
    colour = np.zeros((*size[::-1], 3), np.float32)
    for row in range(3):
        for column in range(4):
            rows, columns = np.arange(row, row + 2) * size[1] // 3, np.arange(column, column + 2) * size[0] // 4
            at = (slice(*rows), slice(*columns))
            angle = rng.uniform(0, np.pi)
            furrows = np.sin(2 * np.pi * (x[at] * np.cos(angle) + y[at] * np.sin(angle)) / rng.uniform(0.8, 1.6))
            base = rng.uniform((70, 80, 40), (140, 140, 90))
            colour[at] = base + 6 * furrows[..., None]
    colour += 45 * detail[..., None] * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    for _ in range(400):  # bushes, higher than what is around them
        centre = tuple(int(v) for v in rng.uniform(0, size))
        radius = int(rng.uniform(0.4, 1.8) * TEXELS)
        shade = rng.uniform(0.35, 0.8)
        axes = (radius, int(radius * rng.uniform(0.5, 1)))
        corners = cv2.ellipse2Poly(centre, axes, int(rng.uniform(0, 180)), 0, 360, 30)
        mask = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(mask, [np.array(corners)], 255)
        colour[mask > 0] *= shade
        relief[mask > 0] += rng.uniform(0.3, 2.0)
    return colour.clip(0, 255).astype(np.uint8), cv2.GaussianBlur(relief, (0, 0), 2)


def flight(photos: int, size: tuple[int, int], seed: int = 0) -> dict[str, View]:
    """Cameras by file name: two thirds of the photos in strips there and back, the others in strips across."""
    rng = np.random.default_rng([seed, 1])
    along = photos * 2 // 3
    focal = FOCAL_35MM / 36 * max(size)
    K = np.array([[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1]])
    views = {}
    for i in range(photos):
        across = i >= along
        number, strips = (i - along, 3) if across else (i, 4)
        each = -(-(photos - along if across else along) // strips)
        strip, step = divmod(number, each)
        back = strip % 2
        forward = (2 * step + 1 - each) / (2 * each)
        place = np.array([-forward if back else forward, (2 * strip + 1 - strips) / (2 * strips)])
        x, y = (place[::-1] if across else place) * (np.array(FIELD) - 55)
        heading = np.radians(180 * back + 90 * across + rng.normal(0, 6))
        cos, sin = np.cos(heading), np.sin(heading)
        level = np.array([[cos, sin, 0], [sin, -cos, 0], [0, 0, -1]])  # looks down, the top of the photo across
        tilt, _ = cv2.Rodrigues(rng.normal(0, np.radians(2), 3))
        centre = np.array([x, y, HEIGHT]) + rng.normal(0, (1, 1, 1.5))
        views[f"{i:03}.jpg"] = View(K, tilt @ level, centre, size)
    return views


def photograph(view: View, texture: np.ndarray, relief: np.ndarray) -> np.ndarray:
    """The photo uint8 [H, W, 3] of the relief: rays meet it after a few steps from a plane, for it is gentle."""
    width, height = view.size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ (np.linalg.inv(view.K).T @ view.R).astype(np.float32)
    level: np.ndarray = np.zeros((height, width), np.float32)
    for _ in range(6):
        reach = (level - view.C[2]) / rays[..., 2]
        column = (view.C[0] + reach * rays[..., 0] + FIELD[0] / 2) * TEXELS
        row = (FIELD[1] / 2 - view.C[1] - reach * rays[..., 1]) * TEXELS
        column, row = column.astype(np.float32), row.astype(np.float32)
        level = cv2.remap(relief, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return cv2.remap(texture, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def render_flight(out: Path, photos: int, size: tuple[int, int], seed: int = 0) -> Path:
    """Photos of a `flight`, as `render_views` writes them; their folder."""
    return render_views(out, flight(photos, size, seed), seed)


def render_views(out: Path, views: dict[str, View], seed: int = 0) -> Path:
    """Write `images/*.jpg`, with EXIF, and `gt.json` as `tpsfm.demo.dataset.render_scene` does; the photos' folder."""
    texture, relief = ground(seed)
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 2])
    for name, view in views.items():
        pixels = photograph(view, texture, relief) + rng.normal(0, 2, (*view.size[::-1], 3))
        write_photo(images / name, pixels.clip(0, 255).astype(np.uint8))
    write_truth(out / "gt.json", views)
    return images


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--photos", type=click.IntRange(8), default=36, show_default=True)
@click.option("--side", type=click.IntRange(64), default=800, show_default=True, help="Longer side, pixels.")
@click.option("--features", multiple=True, default=("tpr", "sift"), show_default=True, help="May be repeated.")
@click.option("--threads", type=int, default=-1, show_default=True, help="-1: all cores.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of results.json and results.md.")
def main(photos: int, side: int, features: tuple[str, ...], threads: int, seed: int, out: Path | None) -> None:
    limits = {"max_keypoints": 4096, "max_size": side, "threads": threads, "seed": seed}
    results = Results(out, "A flight over fields", limits | {"photos": photos})
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "flight"
        render_flight(scene, photos, (side, side * 3 // 4), seed)
        for name in features:
            workspace = Path(folder) / name
            rows[name] = results.row(name, partial(measure, name, scene, workspace, limits))
    results.table(COLUMNS, rows)
    results.write()


def measure(features: str, scene: Path, out: Path, limits: dict[str, Any]) -> dict:
    """One line of the table."""
    workspace, peak = in_process(partial(tpsfm.reconstruct, features=features, **limits), scene / "images", out)
    truth, result = load_poses(scene / "gt.json"), workspace.manifest["result"]
    images = read_model(workspace.sparse).images
    auc = pose_auc(pose_errors(truth, images), (1, 5))
    return {
        "photos": result["photos"],
        "registered": result["registered"],
        "turned": len(workspace.manifest.get("turns", {})),
        "points": result["points"],
        "track": result["mean_track_length"],
        "error px": result["reprojection_error"],
        "cm": 100 * float(np.median(aligned_errors(truth, images)[0])),
        "AUC@1": 100 * auc[0],
        "AUC@5": 100 * auc[1],
        "whole s": sum(stage["seconds"] for stage in workspace.manifest["stages"].values()),
        "peak MiB": peak,
    }


if __name__ == "__main__":
    main()

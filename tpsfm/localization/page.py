"""The report of a localization: one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import median

import numpy as np

from tpsfm.geometry import Model, rescale_points
from tpsfm.localization.result import Localization, model_of
from tpsfm.view.pages import jpeg_uri, render, thumbnail
from tpsfm.view.scene import PHOTO_COLOR, QUERY_COLOR, scene_of
from tpsfm.view.snapshot import splat

_MAX_PICTURES = 200  # queries shown with a picture: the page must stay light
_MAX_LINES = 60  # a picture
_GREEN = (60, 220, 90)
_SIZE = 512  # longer side of each of a picture's two photos, pixels
_SOURCES = {
    "given": "given",
    "map": "known to the map",
    "size": "of the map's photos of that size, refined",
    "exif": "from EXIF, refined",
    "estimated": "estimated, several focal lengths tried",
}


def page(model: Model, results: Sequence[Localization], queries: Path, images: Path | None) -> str:
    """The report as HTML.

    Args:
        model: the map.
        results: of all queries.
        queries: their folder.
        images: folder of the map's photos; where it is None or a photo is missing, its place stays grey.
    """
    localized = [result for result in results if result.pose is not None]
    failed = [result for result in results if result.pose is None]
    small = [jpeg_uri(thumbnail(queries / result.name, 112), 72) for result in failed[:_MAX_PICTURES]]
    pairs = [jpeg_uri(_pair(result, queries, images, model), 80) for result in localized[:_MAX_PICTURES]]
    return render(
        "localization.html",
        title="Localization",
        total=len(results),
        figures=_figures(results, localized),
        top_view=_top_view(model, localized),
        query_color=QUERY_COLOR,
        photo_color=PHOTO_COLOR,
        failed=[(uri, result.name, result.reason) for result, uri in zip_longest(failed, small)],
        localized=[(result.name, uri, _rows(result)) for result, uri in zip_longest(localized, pairs)],
    )


def _figures(results: Sequence[Localization], localized: Sequence[Localization]) -> dict[str, str]:
    figures = {}
    if localized:
        figures = {
            "inliers, median": f"{median(result.inliers for result in localized):,.0f}",
            "position ±95 %, median": f"{median(result.position_uncertainty for result in localized):.3g}",
            "rotation ±95 %, median": f"{median(result.rotation_uncertainty for result in localized):.3f}°",
        }
    if results:
        figures["a photo, median"] = f"{median(sum(result.seconds.values()) for result in results):.2f} s"
    return figures


def _rows(result: Localization) -> dict[str, str]:
    assert result.pose is not None and result.camera is not None
    x, y, z = result.pose.center
    return {
        "inliers": f"{result.inliers:,} ({100 * result.ratio:.0f} %)",
        "centre": f"{x:.3f}, {y:.3f}, {z:.3f} ± {result.position_uncertainty:.2g}",
        "rotation": f"± {result.rotation_uncertainty:.3f}°",
        "camera": f"{result.camera.model}, {_SOURCES[result.camera_source]}",
        "focal length": f"{result.camera.matrix[0, 0]:.1f} px",
        "best image of the map": result.best_image,
        "time": f"{sum(result.seconds.values()):.2f} s",
    }


def _top_view(model: Model, localized: Sequence[Localization]) -> str:
    scene = scene_of(model, model_of(localized), max_points=300_000)
    return jpeg_uri(splat(scene, (1600, 1000), scene.from_above), 85)


def _pair(result: Localization, queries: Path, images: Path | None, model: Model) -> np.ndarray | None:
    """uint8 [H, W, 3]: the query beside the map's image that shares most inliers, these joined by lines."""
    import cv2

    left = thumbnail(queries / result.name, _SIZE)
    if left is None or result.camera is None:
        return None
    right = thumbnail(images / result.best_image, _SIZE) if images is not None and result.best_image else None
    camera = model.cameras[model.images[result.best_image].camera_id] if result.best_image else result.camera
    if right is None:
        scale = _SIZE / max(camera.width, camera.height)
        shape = (round(camera.height * scale), round(camera.width * scale), 3)
        right = np.full(shape, 128, np.uint8)
    canvas = np.full((max(len(left), len(right)), left.shape[1] + right.shape[1] + 8, 3), 255, np.uint8)
    canvas[: len(left), : left.shape[1]] = left
    canvas[: len(right), left.shape[1] + 8 :] = right
    start = rescale_points(result.lines[:, :2], left.shape[1] / result.camera.width)
    end = rescale_points(result.lines[:, 2:], right.shape[1] / camera.width) + np.array([left.shape[1] + 8, 0])
    drawn = np.random.default_rng(0).permutation(len(start))[:_MAX_LINES]
    for a, b in zip(np.rint(16 * start[drawn]).astype(int), np.rint(16 * end[drawn]).astype(int), strict=True):
        cv2.line(canvas, a.tolist(), b.tolist(), _GREEN, 1, cv2.LINE_AA, shift=4)
        for point in (a, b):
            cv2.circle(canvas, point.tolist(), 2 * 16, _GREEN, -1, cv2.LINE_AA, shift=4)
    return canvas

"""The report of a localization: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from statistics import median

import numpy as np

from tpsfm.geometry.model import Model
from tpsfm.localization.pose import Localization
from tpsfm.view.html import document, inline, jpeg
from tpsfm.view.scene import PHOTO_COLOR, QUERY_COLOR, scene_of
from tpsfm.view.splatting import splat
from tpsfm.view.thumbnails import thumbnail

_MAX_PICTURES = 200  # queries shown with a picture: the page must stay light
_MAX_LINES = 60  # a picture
_GREEN = (60, 220, 90)
_SIZE = 512  # longer side of each of a picture's two photos, pixels
_SOURCES = {
    "given": "given",
    "map": "known to the map",
    "exif": "from EXIF, refined",
    "estimated": "estimated, several focal lengths tried",
}


def page(model: Model, results: Sequence[Localization], queries: Path, images: Path | None) -> str:
    """The report as HTML.

    Args:
        model: the map.
        results: of all queries.
        queries: their folder.
        images: the folder of the map's photos; None, or photos that are gone, leave their place empty.
    """
    localized = [result for result in results if result.pose is not None]
    failed = [result for result in results if result.pose is None]
    sections = [_heading(results, localized), _top_view(model, localized)]
    if failed:
        rows = "".join(
            f"<tr>{_small(result, queries, number < _MAX_PICTURES)}<td>{escape(result.name)}</td>"
            f"<td class='bad'>{escape(result.reason)}</td></tr>"
            for number, result in enumerate(failed)
        )
        head = "<tr><th></th><th>photo</th><th>why</th></tr>"
        sections.append(f"<h2>Failed ({len(failed)})</h2><div class='card'><table>{head}{rows}</table></div>")
    if localized:
        sections.append(f"<h2>Localized ({len(localized)})</h2>")
    sections += [
        _card(result, queries, images, model, number < _MAX_PICTURES) for number, result in enumerate(localized)
    ]
    return document("Localization", sections)


def _heading(results, localized) -> str:
    numbers = [("photos localized", f"{len(localized)} <small class='soft'>of {len(results)}</small>")]
    if localized:
        numbers += [
            ("inliers, median", f"{median(result.inliers for result in localized):,.0f}"),
            ("position ±95 %, median", f"{median(result.position_uncertainty for result in localized):.3g}"),
            ("rotation ±95 %, median", f"{median(result.rotation_uncertainty for result in localized):.3f}°"),
        ]
    if results:
        numbers.append(("a photo, median", f"{median(sum(result.seconds.values()) for result in results):.2f} s"))
    cells = "".join(f"<div><b>{value}</b><span class='soft'>{name}</span></div>" for name, value in numbers)
    return f"<h1>Localization</h1><div class='facts'>{cells}</div>"


def _top_view(model: Model, localized) -> str:
    cameras = {number: result.camera for number, result in enumerate(localized)}
    poses = {
        f"{number} {result.name}": replace(result.pose, camera_id=number) for number, result in enumerate(localized)
    }
    scene = scene_of(model, Model.of_cameras(cameras, poses), max_points=300_000)
    picture = jpeg(splat(scene, (1600, 1000), scene.from_above), 85)
    ours, theirs = (f"<b style='color:rgb{color}'>■</b>" for color in (QUERY_COLOR, PHOTO_COLOR))
    return (
        f'<img class="map" alt="The map from above" src="{inline(picture)}">'
        f"<p class='soft'>The map from above: {ours} localized photos, {theirs} photos of the map.</p>"
    )


def _small(result: Localization, queries: Path, pictured: bool) -> str:
    photo = thumbnail(queries / result.name, 112) if pictured else None
    return "<td class='pic'>" + ("" if photo is None else f'<img alt="" src="{inline(jpeg(photo, 72))}">') + "</td>"


def _card(result: Localization, queries: Path, images: Path | None, model: Model, pictured: bool) -> str:
    picture = _pair(result, queries, images, model) if pictured else None
    shown = "" if picture is None else f'<img class="map" alt="Inliers" src="{inline(jpeg(picture, 80))}">'
    x, y, z = result.pose.center
    facts = [
        ("inliers", f"{result.inliers:,} ({100 * result.ratio:.0f} %)"),
        ("centre", f"{x:.3f}, {y:.3f}, {z:.3f} ± {result.position_uncertainty:.2g}"),
        ("rotation", f"± {result.rotation_uncertainty:.3f}°"),
        ("camera", f"{escape(result.camera.model)}, {_SOURCES[result.camera_source]}"),
        ("focal length", f"{result.camera.matrix[0, 0]:.1f} px"),
        ("best image of the map", escape(result.best_image)),
        ("time", f"{sum(result.seconds.values()):.2f} s"),
    ]
    rows = "".join(f"<tr><td class='soft'>{name}</td><td>{value}</td></tr>" for name, value in facts)
    return (
        f"<div class='card' style='margin-bottom:14px'><b>{escape(result.name)}</b>{shown}<table>{rows}</table></div>"
    )


def _pair(result: Localization, queries: Path, images: Path | None, model: Model) -> np.ndarray | None:
    """uint8 [H, W, 3]: the query beside the map's image that shares most inliers, these joined by lines."""
    import cv2

    left = thumbnail(queries / result.name, _SIZE)
    if left is None:
        return None
    right = thumbnail(images / result.best_image, _SIZE) if images is not None and result.best_image else None
    camera = model.cameras[model.images[result.best_image].camera_id] if result.best_image else result.camera
    if right is None:
        scale = _SIZE / max(camera.width, camera.height)
        right = np.full((round(camera.height * scale), round(camera.width * scale), 3), 128, np.uint8)
    canvas = np.full((max(len(left), len(right)), left.shape[1] + right.shape[1] + 8, 3), 255, np.uint8)
    canvas[: len(left), : left.shape[1]] = left
    canvas[: len(right), left.shape[1] + 8 :] = right
    start = (result.lines[:, :2] + 0.5) * (left.shape[1] / result.camera.width)
    end = (result.lines[:, 2:] + 0.5) * (right.shape[1] / camera.width) + (left.shape[1] + 8, 0)
    drawn = np.random.default_rng(0).permutation(len(start))[:_MAX_LINES]
    for a, b in zip(np.rint(16 * start[drawn]).astype(int), np.rint(16 * end[drawn]).astype(int), strict=True):
        ends = [tuple(map(int, point)) for point in (a, b)]
        cv2.line(canvas, *ends, _GREEN, 1, cv2.LINE_AA, shift=4)
        for point in ends:
            cv2.circle(canvas, point, 2 * 16, _GREEN, -1, cv2.LINE_AA, shift=4)
    return canvas

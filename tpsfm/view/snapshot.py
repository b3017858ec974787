"""A picture of a map, on any machine, with or without a display: Open3D's, or drawn with NumPy and OpenCV."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model
from tpsfm.view import window
from tpsfm.view.scene import BACKGROUND, EDGES, REACH, Scene, Viewpoint, scene_of, view_rotation

_SUPERSAMPLING = 2
log = logging.getLogger("tpsfm")


def snapshot(
    model: Model,
    png: str | Path,
    size: tuple[int, int] = (1280, 800),
    queries: Model | None = None,
    level: bool = False,
) -> str:
    """Draw a map's points and frustums off-screen into the file `png`.

    Open3D draws where it works; elsewhere our own renderer does.

    Args:
        size: (width, height) in pixels.
        queries: localized photos, a model in the same frame; they get a colour of their own.
        level: whether the map's third axis is known to be up.

    Returns:
        What drew it: "open3d" or "tpsfm".

    Raises:
        TpsfmError: `png` doesn't end in .png or can't be written, or `size` is out of range.
    """
    png = Path(png)
    if png.suffix.lower() != ".png":
        raise TpsfmError(f"a snapshot is a PNG file; '{png}' doesn't end in .png")
    if min(size) < 64 or max(size) > 8192:
        raise TpsfmError(f"a snapshot of {size[0]}x{size[1]} pixels; each side must be 64 to 8192")
    try:
        with open(png, "ab"):
            pass
    except OSError as error:
        raise TpsfmError(f"can't write '{png}': {error.strerror}") from None
    scene = scene_of(model, queries, 300_000, level)
    try:
        png.unlink()
        window.draw(scene, png, size, timeout=120)
        return "open3d"
    except TpsfmError as error:
        log.info("the snapshot is drawn without Open3D: %s", error)
    try:
        window.save_snapshot(splat(scene, size), png)
    except OSError as error:
        raise TpsfmError(f"can't write '{png}': {error.strerror or error}") from None
    return "tpsfm"


def splat(scene: Scene, size: tuple[int, int] = (1280, 800), viewpoint: Viewpoint | None = None) -> np.ndarray:
    """Draw a scene with NumPy and OpenCV alone: points as discs, frustums as lines.

    Args:
        size: (width, height) in pixels.
        viewpoint: eye, target and up, [3] each; None is the scene's overview.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    import cv2

    k = _SUPERSAMPLING
    width, height = k * size[0], k * size[1]
    eye, target, up = viewpoint or scene.overview
    rotation = view_rotation(eye, target, up)
    focal = 0.5 * min(width / REACH[0], height / REACH[1])
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)

    def project(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y, z = rotation @ (np.asarray(points, np.float64).reshape(-1, 3) - eye).T
        z_safe = np.where(z > 0, z, np.nan)
        return width / 2 + focal * x / z_safe, height / 2 + focal * y / z_safe, z

    _draw_points(canvas, *project(scene.points), scene.colors)
    x, y, _ = project(scene.frustums)
    corners = np.stack([x, y], -1).reshape(-1, 5, 2)
    for polygon, color in zip(corners, scene.frustum_colors.tolist(), strict=True):
        if np.isfinite(polygon).all() and np.abs(polygon).max() < 16 * max(width, height):
            for a, b in np.round(16 * polygon[EDGES]).astype(int):
                cv2.line(canvas, tuple(map(int, a)), tuple(map(int, b)), color, k, cv2.LINE_AA, shift=4)
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def _draw_points(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray, colors: np.ndarray) -> None:
    """Draw discs into `canvas`, the nearest last; nearer ones are larger."""
    height, width = canvas.shape[:2]
    seen = (depth > 0) & (np.abs(x - width / 2) < width) & (np.abs(y - height / 2) < height)
    x, y, depth, colors = x[seen], y[seen], depth[seen], colors[seen]
    if not len(x):
        return
    radius = np.sqrt(0.2 * width * height / (np.pi * len(x)))
    radius = np.clip(np.clip(radius, 1.2, 7) * np.median(depth) / depth, 0.6, 12)
    pixels, owners = [], []
    reach = int(np.ceil(radius.max()))
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            column, row = np.rint(x + dx).astype(int), np.rint(y + dy).astype(int)
            inside = dx * dx + dy * dy <= radius**2
            inside &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
            pixels.append((row * width + column)[inside])
            owners.append(np.flatnonzero(inside))
    owner = np.concatenate(owners)
    order = np.argsort(-depth[owner], kind="stable")
    canvas.reshape(-1, 3)[np.concatenate(pixels)[order]] = colors[owner[order]]

"""A picture of a scene drawn with NumPy and OpenCV alone, so that it works on any machine."""

from __future__ import annotations

import numpy as np

from tpsfm.view.scene import BACKGROUND, EDGES, REACH, Scene, view_rotation

_SUPERSAMPLING = 2


def splat(scene: Scene, size: tuple[int, int] = (1280, 800), look=None) -> np.ndarray:
    """uint8 [H, W, 3] RGB: the scene, points as discs, frustums as lines.

    Args:
        size: (width, height) in pixels.
        look: eye, target and up, [3] each; the scene's overview if left out.
    """
    import cv2

    k = _SUPERSAMPLING
    width, height = k * size[0], k * size[1]
    eye, target, up = look or scene.overview
    rotation = view_rotation(eye, target, up)
    focal = 0.5 * min(width / REACH[0], height / REACH[1])
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)

    def project(points):
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


def _draw_points(canvas, x, y, depth, colors) -> None:
    """Paints discs, the nearest last; nearer ones are larger."""
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
    pixels, owners = np.concatenate(pixels), np.concatenate(owners)
    order = np.argsort(-depth[owners], kind="stable")
    canvas.reshape(-1, 3)[pixels[order]] = colors[owners[order]]

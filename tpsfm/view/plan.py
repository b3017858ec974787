"""The plan of a map in metres: seen from straight above, north at the top, with a grid and a scale bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpsfm.geometry import Model
from tpsfm.view.pages import jpeg_uri, render
from tpsfm.view.scene import BACKGROUND, scene_of

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _HIGHEST = 940, 900  # pixels of the drawing, without its margins
_MARGIN = 0.04  # of the extent, around it
_MAX_POINTS = 300_000


def plan(model: Model) -> Markup:
    """An SVG of the points and photos of a map in metres east, north and up."""
    scene = scene_of(model, max_points=_MAX_POINTS, level=True)
    centers = np.array([pose.center for pose in model.images.values()]).reshape(-1, 3)
    low, high = _extent(scene.points, centers)
    scale = min(_WIDTH / (high - low)[0], _HIGHEST / (high - low)[1])  # pixels a metre
    width, height = np.ceil((high - low) * scale).astype(int).tolist()
    step = round_length(0.16 * width / scale)
    digits = max(0, -int(np.floor(np.log10(step))))
    east, north = (np.arange(np.ceil(low[a] / step), np.floor(high[a] / step) + 1) * step for a in (0, 1))
    drawn = (centers[:, :2] - [low[0], high[1]]) * [scale, -scale]
    bar = round_length(0.2 * width / scale)
    return render(
        "plan.svg",
        **{"width": width, "height": height},
        picture=jpeg_uri(_drawn(scene.points, scene.colors, low, high, scale, (width, height)), 85),
        photos=[(*at, name) for name, at in zip(model.images, drawn.tolist(), strict=True)],
        columns=[((x - low[0]) * scale, f"{x:.{digits}f}") for x in east],
        rows=[((high[1] - y) * scale, f"{y:.{digits}f}") for y in north],
        bar=(bar * scale, f"{bar:g} m"),
    )


def round_length(length: float) -> float:
    """The largest of 1, 2, 5, 10, 20 ... (or 0.5, 0.2 ...) that isn't above a length."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(factor for factor in (1, 2, 5) if factor * power <= length * (1 + 1e-9)) * power)


def _extent(points: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners [2], [2] of what is shown: the photos, and all but a few of the points."""
    low, high = (
        (np.percentile(points[:, :2], q, axis=0) for q in (1, 99)) if len(points) else (np.zeros(2), np.zeros(2))
    )
    if len(centers):
        low, high = np.minimum(low, centers[:, :2].min(0)), np.maximum(high, centers[:, :2].max(0))
    longest = max(float((high - low).max()), 1e-3)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, longest / 8) + _MARGIN * longest
    return middle - half, middle + half


def _drawn(
    points: np.ndarray, colors: np.ndarray, low: np.ndarray, high: np.ndarray, scale: float, size: tuple[int, int]
) -> np.ndarray:
    """uint8 [H, W, 3]: the points as squares, the highest above the others."""
    width, height = size
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    order = np.argsort(points[:, 2], kind="stable")
    column = ((points[order, 0] - low[0]) * scale).astype(int)
    row = ((high[1] - points[order, 1]) * scale).astype(int)
    reach = int(np.clip(np.sqrt(0.4 * width * height / max(len(points), 1)), 1, 5))
    for dy in range(reach):
        for dx in range(reach):
            x, y = column + dx, row + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            canvas[y[inside], x[inside]] = colors[order][inside]
    return canvas

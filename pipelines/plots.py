"""Curves and trajectories as SVG files."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _MARGIN = 360, 300, 34
_PLAN_SIDE = 560
COLOURS = ("#0b6e99", "#d1495b", "#3d8b37", "#e08e0b", "#7a4fa3", "#555555", "#00a6a6", "#a0522d")


def curves(x: np.ndarray, lines: Mapping[str, np.ndarray], title: str, unit: str, top: float = 1.0) -> str:
    """A line plot over a shared `x`, with y from 0 to `top` and a legend, as an SVG file.

    Args:
        x: [T], ascending.
        lines: values [T] by name.
        unit: of `x`.
    """
    x = np.asarray(x, float)
    side, base = 240, 264
    across = _MARGIN + side * (x - x[0]) / (x[-1] - x[0])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"'
        f' font-family="sans-serif" font-size="11" role="img" aria-label="{escape(title, quote=True)}">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{_MARGIN}" y="14" font-size="13">{escape(title)}</text>'
    ]
    for share in np.linspace(0, 1, 6):
        y = base - side * share
        parts.append(f'<line x1="{_MARGIN}" y1="{y}" x2="{_MARGIN + side}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{_MARGIN - 4}" y="{y + 4}" text-anchor="end">{top * share:g}</text>')
    for value, at in zip(x, across, strict=True):
        parts.append(f'<text x="{at:.1f}" y="{base + 15}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{_MARGIN + side}" y="{base + 30}" text-anchor="end">{escape(unit)}</text>')
    for number, (name, values) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{a:.1f},{base - side * v / top:.1f}" for a, v in zip(across, values, strict=True))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = 40 + 15 * number
        parts.append(f'<text x="{_MARGIN + side + 10}" y="{y}" fill="{colour}">{escape(name)}</text>')
    return "".join(parts) + "</svg>"


def side_by_side(charts: list[str]) -> str:
    """Charts of `curves` in a row, as one SVG."""
    moved = [chart.replace("<svg ", f'<svg x="{_WIDTH * i}" ', 1) for i, chart in enumerate(charts)]
    size = f'width="{_WIDTH * len(charts)}" height="{_HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>' + "".join(moved) + "</svg>"


def trajectories(paths: Mapping[str, np.ndarray], title: str, unit: str) -> str:
    """Trajectories seen from above, to scale, with a grid and a legend, as an SVG file.

    Args:
        paths: positions [N, 2], x right and y forward, by name; the first is drawn in black below the others.
        unit: of the positions.
    """
    both = np.concatenate(list(paths.values()))
    low, high = both.min(0), both.max(0)
    extent = max(float((high - low).max()), 1e-9)
    step = 10.0 ** np.floor(np.log10(extent))
    step /= 5 if extent < 2 * step else 2 if extent < 5 * step else 1
    start = np.floor(low / step) * step
    ends = np.ceil(high / step) * step
    scale = _PLAN_SIDE / float(np.maximum(ends - start, step).max())
    width, height = np.maximum(ends - start, step) * scale
    left, top = 60, 30
    names = max(len(name) for name in paths) * 8 + 20

    def to_pixels(points: np.ndarray) -> np.ndarray:
        return np.c_[left + (points[:, 0] - start[0]) * scale, top + height - (points[:, 1] - start[1]) * scale]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + names:.0f}" height="{top + height + 45:.0f}"'
        f' font-family="sans-serif" font-size="11" role="img" aria-label="{escape(title, quote=True)}">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{left}" y="16" font-size="13">{escape(title)}</text>'
    ]
    for x in np.arange(start[0], start[0] + width / scale + step / 2, step):
        at = left + (x - start[0]) * scale
        parts.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{top + height:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{top + height + 15:.1f}" text-anchor="middle">{x:g}</text>')
    for y in np.arange(start[1], start[1] + height / scale + step / 2, step):
        at = top + height - (y - start[1]) * scale
        parts.append(f'<line x1="{left}" y1="{at:.1f}" x2="{left + width:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 4}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    parts.append(f'<text x="{left + width:.1f}" y="{top + height + 32:.1f}" text-anchor="end">{escape(unit)}</text>')
    for number, (name, points) in enumerate(paths.items()):
        colour, thick = (COLOURS[(number - 1) % len(COLOURS)], 1.5) if number else ("black", 4)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in to_pixels(np.asarray(points, float)))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{thick}"/>')
        parts.append(
            f'<text x="{left + width + 10:.1f}" y="{top + 12 + 15 * number}" fill="{colour}">{escape(name)}</text>'
        )
    return "".join(parts) + "</svg>"

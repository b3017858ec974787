"""Histograms and curves as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _MARGIN = 420, 170, 34
_CURVES_WIDTH, _CURVES_HEIGHT = 360, 300
COLOURS = ("#0b6e99", "#d1495b", "#3d8b37", "#e08e0b", "#7a4fa3", "#555555", "#00a6a6", "#a0522d")


def histogram(values: np.ndarray, edges: np.ndarray, title: str, unit: str) -> str:
    """An SVG bar chart of how many `values` fall between `edges`; values beyond the last edge join the last bar.

    The bars have their exact counts as tooltips.
    """
    edges = np.asarray(edges, float)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    top = max(int(counts.max()), 1)
    width, height = _WIDTH - _MARGIN - 12, _HEIGHT - 2 * _MARGIN + 14
    step = width / len(counts)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">',
        f'<text x="{_MARGIN}" y="14" class="title">{escape(title)}</text>',
        f'<text x="{_MARGIN - 4}" y="32" class="axis" text-anchor="end">{_short(top)}</text>',
    ]
    base = 24 + height
    for i, count in enumerate(counts):
        tall = height * count / top
        bounds = f"{edges[i]:g} – {edges[i + 1]:g}" if i + 1 < len(counts) else f"{edges[i]:g} and more"
        parts.append(
            f'<rect x="{_MARGIN + i * step + 0.5:.1f}" y="{base - tall:.1f}" width="{max(step - 1, 0.5):.1f}"'
            f' height="{tall:.1f}"><title>{bounds} {escape(unit)}: {count:,}</title></rect>'
        )
    parts.append(f'<line x1="{_MARGIN}" y1="{base}" x2="{_MARGIN + width}" y2="{base}"/>')
    for i in np.unique(np.linspace(0, len(counts), min(len(counts), 6) + 1).astype(int)):
        x = _MARGIN + i * step
        parts.append(f'<text x="{x:.1f}" y="{base + 15}" class="axis" text-anchor="middle">{edges[i]:g}</text>')
    parts.append(f'<text x="{_MARGIN + width}" y="14" class="axis" text-anchor="end">{escape(unit)}</text></svg>')
    return "".join(parts)


def curves(x: np.ndarray, lines: Mapping[str, np.ndarray], title: str, unit: str, top: float = 1.0) -> str:
    """An SVG of lines over the same `x`, from 0 to `top`, with their names; it stands alone as a file too.

    Args:
        x: [T], ascending.
        lines: values [T] by name; each is drawn in a colour of its own.
        unit: of `x`.
    """
    x = np.asarray(x, float)
    side, base = 240, 264
    across = _MARGIN + side * (x - x[0]) / (x[-1] - x[0])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_CURVES_WIDTH}" height="{_CURVES_HEIGHT}"'
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


def beside(charts: list[str]) -> str:
    """Charts of `curves` in a row, as one SVG."""
    moved = [chart.replace("<svg ", f'<svg x="{_CURVES_WIDTH * i}" ', 1) for i, chart in enumerate(charts)]
    size = f'width="{_CURVES_WIDTH * len(charts)}" height="{_CURVES_HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>' + "".join(moved) + "</svg>"


def _short(count: int) -> str:
    """12345 as 12k."""
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k" if count < 10_000_000 else f"{count / 1e6:.0f}M"

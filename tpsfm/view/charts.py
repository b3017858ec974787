"""Histograms as inline SVG."""

from __future__ import annotations

from html import escape

import numpy as np

_WIDTH, _HEIGHT, _MARGIN = 420, 170, 34


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


def _short(count: int) -> str:
    """12345 as 12k."""
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k" if count < 10_000_000 else f"{count / 1e6:.0f}M"

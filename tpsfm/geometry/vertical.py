"""Which way is up, by cameras: for maps whose positions lie on a line, about which they could turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEVEL = np.sin(np.radians(6))  # how far from horizontal the axis of a photo that counts as level may be
_LEAST_SHARE = 0.5  # of the axes that must be level
_LEAST_UP = 0.3  # mean cosine between what photos take to be up and what is up
_STEPS = 1440  # turns that are tried


@dataclass(frozen=True)
class Turn:
    """A turn about a line: its angle and the standard deviation of it in radians, infinite where it isn't known."""

    angle: float
    deviation: float


def turn_to_level(line: np.ndarray, axes: np.ndarray, ups: np.ndarray, bias: float) -> Turn:
    """The turn about a line after which most of the axes are horizontal.

    Args:
        line: float64 [3], of length 1, in a frame whose third axis is up.
        axes: float64 [N, 3], of length 1, of cameras, which should be horizontal; some may not be.
        ups: float64 [M, 3], roughly up: they tell the turn from the one that puts all upside down.
        bias: radians that the axes may be off together.
    """
    angles = np.linspace(-np.pi, np.pi, _STEPS, endpoint=False)
    cost = np.minimum((_heights(line, axes, angles)[0] / _LEVEL) ** 2, 1).mean(1)
    cost[_heights(line, ups, angles)[0].mean(1) < _LEAST_UP] = np.inf
    if not np.isfinite(cost.min()):
        return Turn(0.0, np.inf)
    angle = float(angles[cost.argmin()])
    for _ in range(10):
        heights, slopes = (values[0] for values in _heights(line, axes, np.array([angle])))
        level = np.abs(heights) < _LEVEL
        known = max(slopes[level] @ slopes[level], 1e-12)
        angle -= float(slopes[level] @ heights[level] / known)
    if level.mean() < _LEAST_SHARE:
        return Turn(0.0, np.inf)
    by_chance = np.sqrt((heights[level] ** 2).mean() / known)
    return Turn(angle, float(np.hypot(by_chance, bias / np.sqrt(known / level.sum()))))


def _heights(line: np.ndarray, vectors: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Third coordinates [A, N] of vectors [N, 3] after turns [A] about a line, and their derivatives by the angle."""
    along = vectors @ line * line[2]
    across, beside = vectors[:, 2] - along, np.cross(line, vectors)[:, 2]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return along + cos * across + sin * beside, cos * beside - sin * across

"""How far a map must be turned about a line for its photos to be level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tpsfm.geometry.vertical import Turn, turn_to_level
from tpsfm.photos import Photo
from tpsfm.photos.orientation import turned

GIMBAL, LEVEL = "gimbal", "photos held level"
_BIAS = {GIMBAL: np.radians(0.5), LEVEL: np.radians(1.0)}  # that all photos may have in common
_LEAST = 3  # photos that tell it


def turn_upright(
    line: np.ndarray, rotations: Mapping[str, np.ndarray], photos: Mapping[str, Photo], turns: Mapping[str, int]
) -> tuple[Turn, str]:
    """The turn about a line after which the photos are level, and by what.

    A drone's gimbal tells what is up in each photo; of others, that most people hold a camera so that its rows are
    horizontal. Photos that are turned, by their EXIF or against the others, count by their columns.

    Args:
        line: float64 [3], of length 1, in a frame whose third axis is up.
        rotations: by name, from that frame to the camera.
        photos: their records.
        turns: degrees clockwise by which photos are turned beyond their EXIF; 0 where left out.
    """
    by_gimbal = {name: photos[name].up for name in rotations if photos[name].up is not None}
    if len(by_gimbal) >= max(_LEAST, len(rotations) / 2):
        ups = np.array([rotations[name].T @ up for name, up in by_gimbal.items()])
        aside = np.cross(ups, np.eye(3)[np.abs(ups).argmin(1)])
        aside /= np.linalg.norm(aside, axis=1)[:, None]
        return turn_to_level(line, np.concatenate([aside, np.cross(ups, aside)]), ups, _BIAS[GIMBAL]), GIMBAL
    if len(rotations) < _LEAST:
        return Turn(0.0, np.inf), LEVEL
    right, up = zip(*(_right_and_up(photos[name].orientation, turns.get(name, 0)) for name in rotations), strict=True)
    axes, ups = (
        np.array([rotation.T @ vector for rotation, vector in zip(rotations.values(), vectors, strict=True)])
        for vectors in (right, up)
    )
    return turn_to_level(line, axes, ups, _BIAS[LEVEL]), LEVEL


def _right_and_up(orientation: int, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """In the frame of a camera, as its pixels are stored: to the right of the photo as seen, and roughly up."""
    seen = turned(orientation, round(turn / 90) % 4)
    down = {1: (0, 1), 6: (1, 0), 3: (0, -1), 8: (-1, 0)}[seen]
    right = (down[1], -down[0])
    return np.array([*right, 0.0]), np.array([-down[0], -down[1], -1.0])  # photos rather look down than up

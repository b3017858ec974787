"""Poses of cameras, similarities between worlds, and rotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pose:
    """Where one registered image stands: x_camera = rotation @ x_world + translation.

    Attributes:
        camera_id: key in `Model.cameras`.
        rotation: float64 [3, 3], world to camera.
        translation: float64 [3], in the map's unit of length.
        observations: how many map points the image sees.
    """

    camera_id: int
    rotation: np.ndarray
    translation: np.ndarray
    observations: int = 0

    @property
    def center(self) -> np.ndarray:
        """float64 [3], the projection centre in the world."""
        return -self.rotation.T @ self.translation


@dataclass(frozen=True)
class Sim3:
    """A similarity: x -> scale · rotation @ x + translation.

    Attributes:
        scale: above 0.
        rotation: float64 [3, 3].
        translation: float64 [3].
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map points [N, 3] or a point [3]."""
        return self.scale * points @ self.rotation.T + self.translation

    @classmethod
    def fit(cls, source: np.ndarray, target: np.ndarray, scaled: bool = True) -> Sim3:
        """The similarity that takes points onto others with the least squared distance.

        Args:
            source, target: [N, 3], N >= 2.
            scaled: False keeps the scale at 1.

        Source: Umeyama, PAMI 1991.
        """
        mean_source, mean_target = source.mean(0), target.mean(0)
        centred = source - mean_source
        u, spectrum, vt = np.linalg.svd((target - mean_target).T @ centred)
        sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
        rotation = u * sign @ vt
        scale = float((spectrum * sign).sum() / max((centred**2).sum(), 1e-300)) if scaled else 1.0
        return cls(scale, rotation, mean_target - scale * rotation @ mean_source)


def rotation_matrix(wxyz: Sequence[float]) -> np.ndarray:
    """float64 [3, 3] of a quaternion [4], wxyz, of any length but 0."""
    w, x, y, z = np.array(wxyz) / np.linalg.norm(wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """float64 [4], wxyz, w >= 0, of a rotation [3, 3]."""
    xx, yy, zz = np.diag(rotation)
    yz, xz, xy = rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]
    yz_, xz_, xy_ = rotation[2, 1] + rotation[1, 2], rotation[0, 2] + rotation[2, 0], rotation[1, 0] + rotation[0, 1]
    matrix = np.array(
        [
            [xx + yy + zz, yz, xz, xy],
            [yz, xx - yy - zz, xy_, xz_],
            [xz, xy_, yy - xx - zz, yz_],
            [xy, xz_, yz_, zz - xx - yy],
        ]
    )
    wxyz = np.linalg.eigh(matrix)[1][:, -1]  # the eigenvector of the largest eigenvalue
    return wxyz if wxyz[0] >= 0 else -wxyz


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """float64 [3, 3]: a turn about an axis [3] of length 1 by an angle in radians, counterclockwise from its tip."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * np.eye(3) + sin * np.cross(np.eye(3), axis) + (1 - cos) * np.outer(axis, axis)


def turn_about(line: np.ndarray, angle: float, through: np.ndarray) -> Sim3:
    """A turn as `rotation_about` about the line of that direction through a point [3]."""
    rotation = rotation_about(line, angle)
    return Sim3(1.0, rotation, through - rotation @ through)


def rotation_angle(rotation: np.ndarray) -> float:
    """Radians; atan2 keeps its precision at small angles, where the arc cosine of the trace loses half the digits."""
    twist = rotation - rotation.T
    sine = np.linalg.norm([twist[2, 1], twist[0, 2], twist[1, 0]]) / 2
    return float(np.arctan2(sine, (np.trace(rotation) - 1) / 2))

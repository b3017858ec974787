"""Cameras, and pixels: in all of tpsfm the centre of an image's top-left pixel is (0, 0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

# COLMAP's camera models in the order of their ids: how many focal lengths, how many parameters in all.
CAMERA_MODELS: dict[str, tuple[int, int]] = {
    "SIMPLE_PINHOLE": (1, 3),
    "PINHOLE": (2, 4),
    "SIMPLE_RADIAL": (1, 4),
    "RADIAL": (1, 5),
    "OPENCV": (2, 8),
    "OPENCV_FISHEYE": (2, 8),
    "FULL_OPENCV": (2, 12),
    "FOV": (2, 5),
    "SIMPLE_RADIAL_FISHEYE": (1, 4),
    "RADIAL_FISHEYE": (1, 5),
    "THIN_PRISM_FISHEYE": (2, 12),
    "RAD_TAN_THIN_PRISM_FISHEYE": (2, 16),
    "SIMPLE_DIVISION": (1, 4),
    "DIVISION": (2, 5),
    "SIMPLE_FISHEYE": (1, 3),
    "FISHEYE": (2, 4),
    "EUCM": (2, 6),
}

Points = TypeVar("Points")
"""An array or a tensor [N, 2]."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics.

    Attributes:
        model: COLMAP's name of the camera model, e.g. "SIMPLE_RADIAL".
        width, height: the image's size in pixels.
        params: that model's parameters: focal length(s), principal point, then the distortion. They are COLMAP's but
            for the principal point, which is in tpsfm's pixels: half a pixel less (see `tpsfm.colmap.convention`).
    """

    model: str
    width: int
    height: int
    params: list[float]

    @property
    def focals(self) -> int:
        """How many focal lengths the model has; the principal point follows them."""
        return CAMERA_MODELS[self.model][0]

    @property
    def matrix(self) -> np.ndarray:
        """float64 [3, 3], the pinhole part K."""
        fx, fy = self.params[0], self.params[self.focals - 1]
        cx, cy = self.params[self.focals : self.focals + 2]
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def rescale_points(points: Points, scale: float | np.ndarray) -> Points:
    """Pixels [N, 2] of an image in the same image resized, `scale` times as large (or one for x and one for y, [2])."""
    return (points + 0.5) * scale - 0.5  # type: ignore[operator, return-value]  # arrays of NumPy or of torch


def rescale_matrix(scale: float) -> np.ndarray:
    """float64 [3, 3]: the homography that does what `rescale_points` does."""
    shift = 0.5 * scale - 0.5
    return np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])

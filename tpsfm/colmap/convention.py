"""COLMAP's pixel origin, half a pixel from tpsfm's: there the centre of the top-left pixel is (0.5, 0.5).

Nothing outside `tpsfm.colmap` knows of it. Cameras that people write, `MODEL,w,h,params` or the rows of a list, and
those in localization.json are COLMAP's: `camera_from_colmap` and `colmap_params` are for them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from tpsfm.geometry import CAMERA_MODELS, Camera

Pixels = TypeVar("Pixels", float, np.ndarray)  # the dtype stays


def to_colmap(pixels: Pixels) -> Pixels:
    """Coordinates in COLMAP's pixels of such in tpsfm's."""
    return pixels + 0.5


def from_colmap(pixels: Pixels) -> Pixels:
    """Coordinates in tpsfm's pixels of such in COLMAP's."""
    return pixels - 0.5


def camera_from_colmap(model: str, width: int, height: int, params: Sequence[float]) -> Camera:
    """A camera of COLMAP's parameters."""
    focals, _ = CAMERA_MODELS[model]
    center = slice(focals, focals + 2)
    return Camera(model, width, height, [*params[:focals], *map(from_colmap, params[center]), *params[focals + 2 :]])


def colmap_params(camera: Camera) -> list[float]:
    """COLMAP's parameters of a camera; those that `camera_from_colmap` was given, to the last bit (from 0.25 px on)."""
    at = camera.focals
    return [*camera.params[:at], *map(to_colmap, camera.params[at : at + 2]), *camera.params[at + 2 :]]

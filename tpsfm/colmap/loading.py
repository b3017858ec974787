"""pycolmap, loaded safely and quietly: the rest of this package imports it from here."""

from __future__ import annotations

import zlib  # noqa: F401  pycolmap 4.1-4.2 brings its own zlib; loaded first it breaks Python's

import pycolmap

from tpsfm.colmap.convention import colmap_params
from tpsfm.geometry import Camera

__all__ = ["colmap_camera", "pycolmap"]

pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)  # what went wrong shows in its results


def colmap_camera(camera: Camera, camera_id: int = 1) -> pycolmap.Camera:
    """COLMAP's own object of a camera."""
    return pycolmap.Camera(
        camera_id=camera_id,
        model=camera.model,
        width=camera.width,
        height=camera.height,
        params=colmap_params(camera),
    )

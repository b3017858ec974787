"""Projection of points through COLMAP's camera models, and back."""

from __future__ import annotations

import numpy as np

from tpsfm.colmap.convention import from_colmap, to_colmap
from tpsfm.colmap.loading import colmap_camera
from tpsfm.geometry import Camera, Pose


def project(camera: Camera, pose: Pose, points: np.ndarray) -> np.ndarray:
    """Pixels float64 [N, 2] of points [N, 3] of the world; nan behind the camera, and where the lens shows nothing."""
    seen = points @ pose.rotation.T + pose.translation
    pixels = np.full((len(points), 2), np.nan)
    ahead = seen[:, 2] > 0
    if ahead.any():
        pixels[ahead] = from_colmap(np.asarray(colmap_camera(camera).img_from_cam(seen[ahead]), np.float64))
    return pixels


def unproject(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """Points float64 [N, 2] on the plane at distance 1 before the camera that pixels [N, 2] show; nan where none."""
    return np.asarray(colmap_camera(camera).cam_from_img(to_colmap(np.asarray(pixels, np.float64))), np.float64)

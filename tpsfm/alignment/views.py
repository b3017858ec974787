"""Registered photos as alignment wants them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch

from tpsfm.alignment.patches import smoothed
from tpsfm.colmap import project
from tpsfm.errors import TpsfmError
from tpsfm.features.scaling import reduced
from tpsfm.geometry import Camera, Pose, rescale_points
from tpsfm.photos import Photo

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, eq=False)
class PhotoView:
    """A photo of known camera and pose, in pixels of the size at which its keypoints were found.

    Attributes:
        camera, pose: of the photo.
        max_size: longer side that a larger photo is reduced to, pixels.
        device: where its pixels are kept.
        photo: the record of its file, which `read` decodes; None where the pixels are at hand.
    """

    camera: Camera
    pose: Pose
    max_size: int
    device: torch.device | str = "cpu"
    photo: Photo | None = None

    @property
    def center(self) -> np.ndarray:
        """float64 [3], the projection centre in the world."""
        return self.pose.center

    @property
    def scale(self) -> np.ndarray:
        """Pixels of the reduced photo for one of the whole, along x and y: float64 [2]."""
        size = np.array([self.camera.width, self.camera.height])
        return np.maximum(np.rint(size * min(1.0, self.max_size / size.max())), 1) / size

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels float64 [N, 2] of points [N, 3] of the world; nan behind the camera."""
        return rescale_points(project(self.camera, self.pose, points), self.scale)

    def reduce(self, pixels: np.ndarray) -> torch.Tensor:
        """Decoded pixels as patches are read from them (see `patches.smoothed`)."""
        return smoothed(reduced(pixels, None, self.max_size)[0], self.device)

    def read(self) -> torch.Tensor | None:
        """The photo as patches are read from it; None, and a warning, where it can't be read."""
        if self.photo is None:
            return None
        try:
            return self.reduce(self.photo.decode())
        except TpsfmError as error:
            log.warning("%s: its keypoints stay as they were detected: %s", self.photo.name, error)
            return None

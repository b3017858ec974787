"""A 3D map as plain arrays."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tpsfm.geometry.camera import Camera
from tpsfm.geometry.motion import Pose


@dataclass(frozen=True)
class Model:
    """A map: cameras, the registered images, points.

    Attributes:
        cameras: intrinsics by camera id.
        images: poses by image name, sorted by name.
        points: float64 [P, 3], xyz in the world.
        colors: uint8 [P, 3], RGB.
        errors: float32 [P], mean reprojection error of each point in pixels.
        track_lengths: int32 [P], how many images see each point.
    """

    cameras: dict[int, Camera]
    images: dict[str, Pose]
    points: np.ndarray
    colors: np.ndarray
    errors: np.ndarray
    track_lengths: np.ndarray

    @classmethod
    def of_cameras(cls, cameras: dict[int, Camera], images: dict[str, Pose]) -> Model:
        """A model without points."""
        none = np.empty((0, 3))
        return cls(cameras, images, none, none.astype(np.uint8), np.empty(0, np.float32), np.empty(0, np.int32))


def summary(model: Model) -> dict[str, Any]:
    """A map in numbers, JSON-serializable.

    Returns:
        registered: names of the registered images; points; observations: how often images see points;
        mean_track_length; reprojection_error: mean over the points, in pixels; cameras: a list of model,
        width, height, params and images (how many).
    """
    points, observations = len(model.points), int(model.track_lengths.sum())
    users = Counter(pose.camera_id for pose in model.images.values())
    return {
        "registered": list(model.images),
        "points": points,
        "observations": observations,
        "mean_track_length": observations / max(points, 1),
        "reprojection_error": float(model.errors.mean()) if points else 0.0,
        "cameras": [{**asdict(camera), "images": users[camera_id]} for camera_id, camera in model.cameras.items()],
    }

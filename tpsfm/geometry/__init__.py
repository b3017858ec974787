"""Cameras, poses and maps as plain arrays, in one pixel origin: the centre of the top-left pixel is (0, 0)."""

from tpsfm.geometry.camera import CAMERA_MODELS, Camera, rescale_matrix, rescale_points
from tpsfm.geometry.model import Model, summary
from tpsfm.geometry.motion import Pose, Sim3, quaternion, rotation_about, rotation_angle, rotation_matrix, turn_about

__all__ = [
    "CAMERA_MODELS",
    "Camera",
    "Model",
    "Pose",
    "Sim3",
    "quaternion",
    "rescale_matrix",
    "rescale_points",
    "rotation_about",
    "rotation_angle",
    "rotation_matrix",
    "summary",
    "turn_about",
]

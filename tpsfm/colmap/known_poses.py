"""Add images of known poses to a database and to a model, under the same ids."""

from __future__ import annotations

import numpy as np

from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.database import write_camera, write_image
from tpsfm.colmap.loading import pycolmap
from tpsfm.geometry import Pose


def add_camera(model: pycolmap.Reconstruction, db: pycolmap.Database, camera: pycolmap.Camera) -> None:
    """Add a camera, in a rig of its own."""
    rig = write_camera(db, camera)
    model.add_camera(camera)
    model.add_rig(rig)


def add_image(
    model: pycolmap.Reconstruction,
    db: pycolmap.Database,
    image_id: int,
    name: str,
    camera_id: int,
    pose: Pose,
    keypoints: np.ndarray,
) -> None:
    """Add a registered image, in a frame of its own.

    Args:
        camera_id: of a camera that `add_camera` added.
        pose: world to camera; its own `camera_id` is not used.
        keypoints: float32 [N, 2], in tpsfm's pixels.
    """
    pixels = to_colmap(np.asarray(keypoints, np.float32))
    image = pycolmap.Image(name=name, keypoints=pixels.astype(np.float64), camera_id=camera_id, image_id=image_id)
    frame = write_image(db, image)
    db.write_keypoints(image_id, pixels)
    image.frame_id = frame.frame_id
    frame.rig_from_world = pycolmap.Rigid3d(np.column_stack([pose.rotation, pose.translation]))
    model.add_frame(frame)
    model.add_image(image)
    model.register_frame(frame.frame_id)

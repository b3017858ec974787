"""Images of known poses in a database and in a model, under the same ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.database import open_database, write_camera, write_image
from tpsfm.colmap.loading import colmap_camera, pycolmap
from tpsfm.colmap.tracks import load_cache
from tpsfm.geometry import Model, Pose


def write_placed(database: Path, known: Model, output: Path) -> None:
    """Write a model without points: images of a database at known poses.

    Args:
        database: with verified matches; a camera in a rig of its own each.
        known: cameras by their ids in the database, and poses; its points are not used.
        output: an empty folder.
    """
    with open_database(database) as db:
        cache = load_cache(db)
    model = pycolmap.Reconstruction()
    model.load(cache)
    for camera_id, camera in known.cameras.items():
        model.camera(camera_id).params = list(colmap_camera(camera, camera_id).params)
    for image in model.images.values():
        if image.name in known.images:
            image.frame.rig_from_world = _rigid(known.images[image.name])
            model.register_frame(image.frame_id)
    model.tear_down()
    model.write_binary(output)


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
    frame.rig_from_world = _rigid(pose)
    model.add_frame(frame)
    model.add_image(image)
    model.register_frame(frame.frame_id)


def _rigid(pose: Pose) -> pycolmap.Rigid3d:
    return pycolmap.Rigid3d(np.column_stack([pose.rotation, pose.translation]))

"""Images, cameras and keypoints in COLMAP's database, as the mapper wants them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.colmap.cameras import initial_focal
from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.database import open_database, write_camera, write_image
from tpsfm.colmap.loading import colmap_camera, pycolmap
from tpsfm.colmap.pair_table import PairTable
from tpsfm.colmap.rigs import apply_rigs, needs_calibration
from tpsfm.errors import TpsfmError
from tpsfm.geometry import CAMERA_MODELS, Camera
from tpsfm.photos import Photo


def write_images(
    path: str | Path,
    photos: Mapping[str, Photo],
    camera_of: Mapping[str, int],
    keypoints: Callable[[str], np.ndarray],
    camera_model: str = "SIMPLE_RADIAL",
    key: str = "",
    given: Mapping[str, Camera] | None = None,
    rig: Path | None = None,
) -> None:
    """Write images, their cameras and keypoints to a database, in place of any that are there; its pairs stay.

    Image ids count from 1 in the order of the sorted names, as in `PairTable`.

    Args:
        path: the database file.
        photos: the photos that take part, by name.
        camera_of: camera number by name, from `group_cameras`.
        keypoints: name -> float32 [N, 2], xy in tpsfm's pixels (the top-left pixel's centre is (0, 0)).
        camera_model: one of `CAMERA_MODELS`.
        key: digest of all of these; images that are there under the same key are left alone, "" is never the same.
        given: known cameras by name, for those photos in place of `camera_model`.
        rig: COLMAP's rig.json, of photos that `check_rigs` passed.

    Raises:
        TpsfmError: the camera model is unknown, or the database is missing, damaged or can't be written.
    """
    if camera_model not in CAMERA_MODELS:
        raise TpsfmError(f"no camera model '{camera_model}'; there are: {', '.join(CAMERA_MODELS)}")
    with PairTable(path) as table:
        is_there = bool(key) and table.images_key == key
    if is_there and _are_whole(path, photos):
        return
    with PairTable(path) as table:
        table.clear_images()
    with open_database(path) as db:
        for name, image_id in _write_images(db, photos, camera_of, camera_model, given or {}).items():
            db.write_keypoints(image_id, to_colmap(np.asarray(keypoints(name), np.float32)))
    if rig is not None and not needs_calibration(Path(path), rig):
        apply_rigs(Path(path), rig)
    with PairTable(path) as table:
        table.images_key = key


def _are_whole(path: str | Path, photos: Collection[str]) -> bool:
    """Whether a database has these images, each with its camera and keypoints."""
    with open_database(path) as db:
        cameras = {camera.camera_id for camera in db.read_all_cameras()}
        images = db.read_all_images()
        kept = all(image.camera_id in cameras and db.exists_keypoints(image.image_id) for image in images)
    return kept and {image.name for image in images} == set(photos)


def _write_images(
    db: Any,
    photos: Mapping[str, Photo],
    camera_of: Mapping[str, int],
    camera_model: str,
    given: Mapping[str, Camera],
) -> dict[str, int]:
    """Write cameras and images, each in a rig and a frame of its own, and return the image ids by name."""
    members: dict[int, list[str]] = {}
    for name in sorted(photos):
        members.setdefault(camera_of[name], []).append(name)
    sensors = {}
    for number, names in members.items():
        if names[0] in given:
            camera, known = colmap_camera(given[names[0]], number + 1), True
        else:
            focal, known = initial_focal(photos[name] for name in names)
            size = photos[names[0]].size
            camera = pycolmap.Camera.create_from_model_name(number + 1, camera_model, focal, *size)
        camera.has_prior_focal_length = known
        write_camera(db, camera)
        sensors[number] = camera.camera_id

    ids = {}
    for image_id, name in enumerate(sorted(photos), start=1):
        image = pycolmap.Image(name=name, camera_id=sensors[camera_of[name]], image_id=image_id)
        write_image(db, image)
        ids[name] = image_id
    return ids

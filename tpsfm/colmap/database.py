"""COLMAP's database: what the mapper starts from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tpsfm.colmap.cameras import CAMERA_MODELS, initial_focal
from tpsfm.colmap.loading import pycolmap
from tpsfm.errors import TpsfmError
from tpsfm.photos.images import ImageInfo

_GPS_VARIANCE = np.diag([5.0, 5.0, 10.0]) ** 2  # square metres, of a phone under open sky; EXIF gives none


def build_database(
    path: str | Path,
    infos: Mapping[str, ImageInfo],
    camera_of: Mapping[str, int],
    keypoints: Callable[[str], np.ndarray],
    matches: Iterable[tuple[str, str, np.ndarray]],
    camera_model: str = "SIMPLE_RADIAL",
) -> int:
    """Write a new database; one that is there is replaced once the new one is complete.

    Image ids count from 1 in the order of the sorted names, so that equal input gives an equal database.

    Args:
        path: the database file.
        infos: the photos that take part, by name.
        camera_of: camera number by name, from `group_cameras`.
        keypoints: name -> float32 [N, 2], xy in tpsfm's pixels (the top-left pixel's centre is (0, 0)).
        matches: (name0, name1, uint32 [M, 2] indices of keypoints); pairs with none are left out.
        camera_model: one of `CAMERA_MODELS`.

    Returns:
        How many pairs with matches were written.

    Raises:
        TpsfmError: the camera model is unknown, or the file can't be written.
    """
    if camera_model not in CAMERA_MODELS:
        raise TpsfmError(f"no camera model '{camera_model}'; there are: {', '.join(CAMERA_MODELS)}")
    path = Path(path)
    new = path.with_name(path.name + ".new")
    remove_database(new)
    try:
        with open_database(new, create=True) as db, pycolmap.DatabaseTransaction(db):
            ids = _write_images(db, infos, camera_of, camera_model)
            for name, image_id in ids.items():
                # COLMAP's origin is the corner of the top-left pixel, half a pixel from its centre.
                db.write_keypoints(image_id, np.asarray(keypoints(name), np.float32) + np.float32(0.5))
            pairs = 0
            for name0, name1, indices in matches:
                if len(indices):
                    db.write_matches(ids[name0], ids[name1], np.asarray(indices, np.uint32))
                    pairs += 1
    except BaseException:
        remove_database(new)
        raise
    remove_database(path)
    os.replace(new, path)
    return pairs


@contextmanager
def open_database(path: str | Path, create: bool = False) -> Iterator[pycolmap.Database]:
    """COLMAP's database at `path`, closed at the end.

    Raises:
        TpsfmError: it is missing, damaged or can't be written.
    """
    path = Path(path)
    if not create and not path.is_file():
        raise TpsfmError(f"no database '{path}'; run `tpsfm map`")
    try:
        db = pycolmap.Database.open(path)
    except RuntimeError:
        problem = "can't be created" if create else "is damaged or can't be written; delete it and run again"
        raise TpsfmError(f"the database '{path}' {problem}") from None
    try:
        yield db
    except RuntimeError as error:
        raise TpsfmError(f"the database '{path}' failed: {str(error).splitlines()[0]}") from error
    finally:
        db.close()


def _write_images(
    db, infos: Mapping[str, ImageInfo], camera_of: Mapping[str, int], camera_model: str
) -> dict[str, int]:
    """Write cameras and images, each in a rig and a frame of its own, and return the image ids by name."""
    members: dict[int, list[ImageInfo]] = {}
    for name in sorted(infos):
        members.setdefault(camera_of[name], []).append(infos[name])
    sensors = {}
    for number, group in members.items():
        focal, known = initial_focal(group)
        camera = pycolmap.Camera.create_from_model_name(
            number + 1, camera_model, focal, group[0].width, group[0].height
        )
        camera.has_prior_focal_length = known
        write_camera(db, camera)
        sensors[number] = camera.camera_id

    ids = {}
    for image_id, name in enumerate(sorted(infos), start=1):
        image = pycolmap.Image(name=name, camera_id=sensors[camera_of[name]], image_id=image_id)
        write_image(db, image)
        if infos[name].gps is not None:
            db.write_pose_prior(_gps_prior(image, infos[name].gps))
        ids[name] = image_id
    return ids


def write_camera(db, camera) -> pycolmap.Rig:
    """Write a camera and its rig, which has no other sensor and the same id."""
    rig = pycolmap.Rig(rig_id=camera.camera_id)
    rig.add_ref_sensor(camera.sensor_id)
    db.write_camera(camera, use_camera_id=True)
    db.write_rig(rig, use_rig_id=True)
    return rig


def write_image(db, image) -> pycolmap.Frame:
    """Write an image and its frame, which holds no other and has the same id."""
    frame = pycolmap.Frame(frame_id=image.image_id, rig_id=image.camera_id)
    frame.add_data_id(image.data_id)
    db.write_image(image, use_image_id=True)
    db.write_frame(frame, use_frame_id=True)
    return frame


def _gps_prior(image, gps: tuple[float, float, float]):
    return pycolmap.PosePrior(
        corr_data_id=image.data_id,
        position=np.nan_to_num(np.array(gps, float)),  # without an altitude: at sea level
        position_covariance=_GPS_VARIANCE,
        coordinate_system=pycolmap.PosePriorCoordinateSystem.WGS84,
    )


def remove_database(path: Path) -> None:
    """Delete a database with the journals that belong to it alone."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

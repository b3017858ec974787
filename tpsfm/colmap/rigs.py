"""Cameras that are mounted together: COLMAP's rigs, whose photos of one moment have one pose."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tpsfm.colmap.database import open_database
from tpsfm.colmap.loading import pycolmap
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Pose
from tpsfm.photos import Photo


def read_rigs(path: Path) -> list[list[str]]:
    """The prefixes of the photos' names by rig and camera, of COLMAP's rig.json.

    Raises:
        TpsfmError: it can't be read, or is none.
    """
    return [[camera.image_prefix for camera in rig.cameras] for rig in _configs(path)]


def check_rigs(photos: Mapping[str, Photo], path: Path) -> None:
    """Whether photos are those of the rigs of a file.

    Raises:
        TpsfmError: the file is none, a camera has no photo or photos of several sizes, or no two cameras of a rig have
            photos of the same name.
    """
    for prefixes in read_rigs(path):
        moments = []
        for prefix in prefixes:
            names = [name for name in photos if name.startswith(prefix)]
            if not names:
                first = next(iter(sorted(photos)), "none")
                raise TpsfmError(f"{path}: no photo's name begins with '{prefix}'; the first one is {first}")
            sizes = {photos[name].size for name in names}
            if len(sizes) > 1:
                raise TpsfmError(f"{path}: the photos of '{prefix}' have {len(sizes)} sizes, but are of one camera")
            moments.append({name.removeprefix(prefix) for name in names})
        if len(prefixes) > 1 and not any(moments[0] & other for other in moments[1:]):
            raise TpsfmError(
                f"{path}: no photos of '{prefixes[0]}' and '{prefixes[1]}' have the same name after these, as photos"
                " of one moment must"
            )


def rig_cameras(camera_of: Mapping[str, int], rigs: Collection[Collection[str]]) -> dict[str, int]:
    """One camera for each of a rig, in place of those by name that `group_cameras` gave; their order stays."""
    numbers: dict[object, int] = {}
    found = {}
    for name in sorted(camera_of, key=lambda name: (camera_of[name], name)):
        prefix = next((prefix for rig in rigs for prefix in rig if name.startswith(prefix)), None)
        found[name] = numbers.setdefault(prefix or camera_of[name], len(numbers))
    return dict(sorted(found.items()))


def turns_only(rigs: Iterable[pycolmap.Rig]) -> bool:
    """Whether the cameras of rigs look out from one point, as the views of a 360-degree photo do.

    How they lie to each other is exact then, and not adjusted.
    """
    others = [pose for rig in rigs for pose in rig.non_ref_sensors.values()]
    return bool(others) and all(pose is not None and not pose.translation.any() for pose in others)


def panoramas_of(folder: Path) -> tuple[dict[str, Pose], set[str]]:
    """The 360-degree photos in a map of their views, which are a rig of cameras in one point.

    Args:
        folder: of the map.

    Returns:
        By name, their poses: those of their first views, so x to the right, y down, z to the middle of the photo; and
        the prefixes that the names of the views have before that. Neither where the map has no such rig.

    Raises:
        TpsfmError: the map can't be read.
    """
    try:
        reconstruction = pycolmap.Reconstruction(folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't read the map in '{folder}': {str(error).splitlines()[0]}") from None
    poses: dict[str, Pose] = {}
    prefixes: set[str] = set()
    for frame_id in reconstruction.reg_frame_ids():
        frame = reconstruction.frame(frame_id)
        rig, pose = frame.rig, frame.rig_from_world
        if rig is None or pose is None or not turns_only([rig]):
            continue
        views = [reconstruction.image(data.id).name for data in frame.image_ids]
        name = _flipped(os.path.commonpath([_flipped(view) for view in views]))
        prefixes |= {view.removesuffix(name) for view in views}
        seen = sum(reconstruction.image(data.id).num_points3D for data in frame.image_ids)
        poses[name] = Pose(rig.ref_sensor_id.id, pose.rotation.matrix(), pose.translation, seen)
    return dict(sorted(poses.items())), prefixes


def _flipped(name: str) -> str:
    """A path with its last part first."""
    return "/".join(name.split("/")[::-1])


def needs_calibration(database: Path, path: Path) -> bool:
    """Whether a rig's cameras are not known to each other yet, neither by its file nor by a database."""
    if all(camera.ref_sensor or camera.cam_from_rig is not None for rig in _configs(path) for camera in rig.cameras):
        return False
    with open_database(database) as db:
        return not any(rig.num_sensors() > 1 for rig in db.read_all_rigs())


def apply_rigs(database: Path, path: Path, model: Path | None = None) -> None:
    """Make the images of a database those of rigs.

    Args:
        model: folder of a map without rigs, which tells how their cameras lie to each other where `path` doesn't.

    Raises:
        TpsfmError: the cameras of a rig have photos of several cameras of the database, or the map lacks some.
    """
    try:
        with open_database(database) as db:
            known = () if model is None else (pycolmap.Reconstruction(model),)
            pycolmap.apply_rig_config(_configs(path), db, *known)
    except ValueError as error:
        raise TpsfmError(f"{path} doesn't fit the photos: {str(error).splitlines()[0].split('] ')[-1]}") from None


def _configs(path: Path) -> list[pycolmap.RigConfig]:
    try:
        Path(path).read_bytes()
        configs = pycolmap.read_rig_config(path)
    except OSError as error:
        raise TpsfmError(f"can't read the rig '{path}': {error.strerror}") from None
    except (RuntimeError, ValueError) as error:
        problem = str(error).splitlines()[0].split("] ")[-1]
        raise TpsfmError(f"'{path}' is not COLMAP's rig.json: {problem}") from None
    if not configs:
        raise TpsfmError(f"'{path}' names no rig; it should be a list of rigs, each with its cameras")
    return configs

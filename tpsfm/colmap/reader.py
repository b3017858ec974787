"""Maps read from COLMAP's binary files, without COLMAP."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from tpsfm.colmap.convention import camera_from_colmap, from_colmap
from tpsfm.errors import TpsfmError
from tpsfm.geometry import CAMERA_MODELS, Camera, Model, Pose, rotation_matrix

_MODELS = tuple(CAMERA_MODELS.items())  # by id
_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<i8")])  # point is -1 where there is none
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8")])
_RGB = 32  # bytes of a point before its colour

Content = TypeVar("Content")


def read_model(folder: str | Path) -> Model:
    """The map in `folder` (COLMAP's cameras.bin, images.bin, points3D.bin).

    Raises:
        TpsfmError: a file is missing or damaged, or a camera model is unknown.
    """
    folder = Path(folder)
    cameras = _read(folder / "cameras.bin", _parse_cameras)
    images = _read(folder / "images.bin", _parse_images)
    points = _read(folder / "points3D.bin", _parse_points)
    if any(pose.camera_id not in cameras for pose in images.values()):
        raise TpsfmError(f"'{folder / 'cameras.bin'}' lacks cameras that images.bin names; run `tpsfm map` again")
    return Model(
        cameras=cameras,
        images=dict(sorted(images.items())),
        points=points["xyz"].astype(np.float64),
        colors=points["rgb"].copy(),
        errors=points["error"].astype(np.float32),
        track_lengths=points["length"].astype(np.int32),
    )


def read_observations(folder: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Which map point each keypoint of the registered images shows.

    Args:
        folder: of the map, as for `read_model`.

    Returns:
        By image name: keypoints float32 [K, 2], in tpsfm's pixels, in the order of the image's features; and
        int64 [K], rows of `Model.points`, -1 where a keypoint shows none.

    Raises:
        TpsfmError: a file is missing or damaged.
    """
    folder = Path(folder)
    ids = read_point_ids(folder)
    order = np.argsort(ids)

    def rows(seen: np.ndarray) -> np.ndarray:
        found = np.full(len(seen), -1)
        shown = np.flatnonzero(seen != -1)
        found[shown] = order[np.searchsorted(ids, seen[shown], sorter=order)]
        return found

    def parse(data: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {
            name: (from_colmap(seen["xy"]).astype(np.float32), rows(seen["point"]))
            for name, _, _, seen in _image_records(data)
        }

    return dict(sorted(_read(folder / "images.bin", parse).items()))


def read_point_ids(folder: str | Path) -> np.ndarray:
    """COLMAP's ids of the points of a map, int64 [P], in the order of `Model.points`.

    Raises:
        TpsfmError: the file is missing or damaged.
    """
    return _read(Path(folder) / "points3D.bin", _parse_points)["id"].astype(np.int64)


def replace_colors(folder: Path, colors: np.ndarray) -> None:
    """Write colours uint8 [K, 3] of the first K points, in the order of `Model.points`, into a model's points3D.bin.

    Raises:
        TpsfmError: the file is missing or damaged.
        OSError: it can't be written.
    """
    path = folder / "points3D.bin"
    starts = _read(path, _point_starts)[: len(colors)]
    data = np.fromfile(path, np.uint8)
    data[starts[:, None] + _RGB + np.arange(3)] = colors
    data.tofile(path)


def _read(path: Path, parse: Callable[[bytes], Content]) -> Content:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise TpsfmError(f"no map in '{path.parent}': {path.name} is missing; run `tpsfm map`") from None
    except OSError as error:
        raise TpsfmError(f"can't read '{path}': {error.strerror}") from None
    try:
        return parse(data)
    except (struct.error, IndexError, KeyError, ValueError, OverflowError):
        raise TpsfmError(f"'{path}' is damaged or of an unknown version; run `tpsfm map` again") from None


def _parse_cameras(data: bytes) -> dict[int, Camera]:
    (count,) = struct.unpack_from("<Q", data)
    cameras, at = {}, 8
    for _ in range(count):
        camera_id, model_id, width, height = struct.unpack_from("<IiQQ", data, at)
        model, (_, size) = _MODELS[model_id]
        params = struct.unpack_from(f"<{size}d", data, at + 24)
        cameras[camera_id] = camera_from_colmap(model, width, height, params)
        at += 24 + 8 * size
    return cameras


def _parse_images(data: bytes) -> dict[str, Pose]:
    return {
        name: Pose(camera_id, rotation_matrix(pose[:4]), np.array(pose[4:]), int((seen["point"] != -1).sum()))
        for name, pose, camera_id, seen in _image_records(data)
    }


def _image_records(data: bytes) -> Iterator[tuple[str, list[float], int, np.ndarray]]:
    """Name, quaternion and translation, camera id and `_KEYPOINT`s of each image."""
    (count,) = struct.unpack_from("<Q", data)
    at = 8
    for _ in range(count):
        _, *pose, camera_id = struct.unpack_from("<I7dI", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode()
        (keypoints,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * keypoints
        yield name, pose, camera_id, np.frombuffer(data, _KEYPOINT, keypoints, end + 9)


def _parse_points(data: bytes) -> np.ndarray:
    (count,) = struct.unpack_from("<Q", data)
    if count * _POINT.itemsize > len(data):
        raise ValueError("truncated")
    raw = np.frombuffer(data, np.uint8)
    return raw[_point_starts(data)[:, None] + np.arange(_POINT.itemsize)].view(_POINT)[:, 0]


def _point_starts(data: bytes) -> np.ndarray:
    """int64 [P], where the records of points begin: each ends with its track, whose length only it tells."""
    (count,) = struct.unpack_from("<Q", data)
    starts, at = np.empty(count, np.int64), 8
    for index in range(count):
        starts[index] = at
        (length,) = struct.unpack_from("<Q", data, at + _POINT.itemsize - 8)
        at += _POINT.itemsize + 8 * length
    if at > len(data):
        raise ValueError("truncated")
    return starts

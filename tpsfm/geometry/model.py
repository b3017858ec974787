"""A 3D map as plain arrays, read from COLMAP's binary files without COLMAP."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tpsfm.errors import TpsfmError

# COLMAP's camera models by id: the name, how many focal lengths, how many parameters in all.
CAMERA_MODELS: dict[int, tuple[str, int, int]] = {
    0: ("SIMPLE_PINHOLE", 1, 3),
    1: ("PINHOLE", 2, 4),
    2: ("SIMPLE_RADIAL", 1, 4),
    3: ("RADIAL", 1, 5),
    4: ("OPENCV", 2, 8),
    5: ("OPENCV_FISHEYE", 2, 8),
    6: ("FULL_OPENCV", 2, 12),
    7: ("FOV", 2, 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 1, 4),
    9: ("RADIAL_FISHEYE", 1, 5),
    10: ("THIN_PRISM_FISHEYE", 2, 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 2, 16),
    12: ("SIMPLE_DIVISION", 1, 4),
    13: ("DIVISION", 2, 5),
    14: ("SIMPLE_FISHEYE", 1, 3),
    15: ("FISHEYE", 2, 4),
    16: ("EUCM", 2, 6),
}
_FOCALS = {name: focals for name, focals, _ in CAMERA_MODELS.values()}

_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<i8")])  # point is -1 where there is none
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8")])


@dataclass(frozen=True)
class Camera:
    """Intrinsics.

    Attributes:
        model: COLMAP's name of the camera model, e.g. "SIMPLE_RADIAL".
        width, height: the image's size in pixels.
        params: COLMAP's parameters of that model, focal length(s) first, then the principal point, in pixels
            with COLMAP's origin: the centre of the top-left pixel is (0.5, 0.5).
    """

    model: str
    width: int
    height: int
    params: list[float]

    @property
    def matrix(self) -> np.ndarray:
        """float64 [3, 3] pinhole part K, in tpsfm's pixels (the centre of the top-left pixel is (0, 0))."""
        focals = _FOCALS[self.model]
        fx, fy = self.params[0], self.params[focals - 1]
        cx, cy = self.params[focals : focals + 2]
        return np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])


@dataclass(frozen=True)
class Pose:
    """Where one registered image stands: x_camera = rotation @ x_world + translation.

    Attributes:
        camera_id: key in `Model.cameras`.
        rotation: float64 [3, 3], world to camera.
        translation: float64 [3], in the map's unit of length.
        observations: how many map points the image sees.
    """

    camera_id: int
    rotation: np.ndarray
    translation: np.ndarray
    observations: int = 0

    @property
    def center(self) -> np.ndarray:
        """float64 [3], the projection centre in the world."""
        return -self.rotation.T @ self.translation


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
    ids = _read(folder / "points3D.bin", _parse_points)["id"].astype(np.int64)
    order = np.argsort(ids)

    def rows(seen: np.ndarray) -> np.ndarray:
        found = np.full(len(seen), -1)
        shown = np.flatnonzero(seen != -1)
        found[shown] = order[np.searchsorted(ids, seen[shown], sorter=order)]
        return found

    def parse(data: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {
            name: ((seen["xy"] - 0.5).astype(np.float32), rows(seen["point"]))
            for name, _, _, seen in _image_records(data)
        }

    return dict(sorted(_read(folder / "images.bin", parse).items()))


def summary(model: Model) -> dict:
    """A map in numbers, JSON-serializable.

    Returns:
        registered: names of the registered images; points; observations: how often images see points;
        mean_track_length; reprojection_error: mean over the points, in pixels; cameras: a list of model,
        width, height, params and images (how many).
    """
    points, observations = len(model.points), int(model.track_lengths.sum())
    users = [pose.camera_id for pose in model.images.values()]
    return {
        "registered": list(model.images),
        "points": points,
        "observations": observations,
        "mean_track_length": observations / max(points, 1),
        "reprojection_error": float(model.errors.mean()) if points else 0.0,
        "cameras": [
            {**asdict(camera), "images": users.count(camera_id)} for camera_id, camera in model.cameras.items()
        ],
    }


def _read(path: Path, parse):
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
        model, _, size = CAMERA_MODELS[model_id]
        cameras[camera_id] = Camera(model, width, height, list(struct.unpack_from(f"<{size}d", data, at + 24)))
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
    starts, at = np.empty(count, np.int64), 8
    for index in range(count):  # a record ends with its track, whose length only the record itself tells
        starts[index] = at
        (length,) = struct.unpack_from("<Q", data, at + _POINT.itemsize - 8)
        at += _POINT.itemsize + 8 * length
    if at > len(data):
        raise ValueError("truncated")
    raw = np.frombuffer(data, np.uint8)
    return raw[starts[:, None] + np.arange(_POINT.itemsize)].view(_POINT)[:, 0]


def rotation_matrix(wxyz: Sequence[float]) -> np.ndarray:
    """float64 [3, 3] of a quaternion [4], wxyz, of any length but 0."""
    w, x, y, z = np.array(wxyz) / np.linalg.norm(wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """float64 [4], wxyz, w >= 0, of a rotation [3, 3]."""
    xx, yy, zz = np.diag(rotation)
    yz, xz, xy = rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]
    yz_, xz_, xy_ = rotation[2, 1] + rotation[1, 2], rotation[0, 2] + rotation[2, 0], rotation[1, 0] + rotation[0, 1]
    matrix = np.array(
        [
            [xx + yy + zz, yz, xz, xy],
            [yz, xx - yy - zz, xy_, xz_],
            [xz, xy_, yy - xx - zz, yz_],
            [xy, xz_, yz_, zz - xx - yy],
        ]
    )
    wxyz = np.linalg.eigh(matrix)[1][:, -1]  # the eigenvector of the largest eigenvalue
    return wxyz if wxyz[0] >= 0 else -wxyz

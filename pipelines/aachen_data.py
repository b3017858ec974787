"""Readers for Aachen Day-Night: images, queries, the reference model (COLMAP or NVM), pairs and poses."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from tpsfm import TpsfmError, colmap
from tpsfm.colmap import read_model, read_observations
from tpsfm.geometry import Camera, Model, Pose, quaternion, rotation_matrix
from tpsfm.localization.queries import Query, list_queries

LIGHTS = ("day", "night")
MODELS = {"1.1": "aachen_v_1_1", "1.0": "aachen_v_1"}
NVM = "aachen_cvpr2018_db.nvm"


@dataclass(frozen=True)
class Dataset:
    """The dataset.

    Attributes:
        version: "1.0" or "1.1".
        images: the folder that all names are relative to.
        queries: with their cameras, by light.
        model: the reference's cameras and poses.
        seen: rows of the reference's points by image name.
    """

    version: str
    images: Path
    queries: dict[str, list[Query]]
    model: Model
    seen: dict[str, np.ndarray]


def open_dataset(data: Path, version: str | None) -> Dataset:
    """Read the dataset; `version` None is the newest there.

    Raises:
        TpsfmError: something is missing, or damaged.
    """
    images = data / "images" / "images_upright"
    if not images.is_dir() and (data / "images_upright").is_dir():
        images = data / "images_upright"
    queries = {}
    for light in LIGHTS:
        rows = _there(data / "queries" / f"{light}_time_queries_with_intrinsics.txt")
        queries[light] = list_queries(rows, _there(images))[1]
    version, model, seen = _reference(data / "3D-models", version)
    names = [query.name for part in queries.values() for query in part]
    for name in [*model.images, *names]:
        _there(images / name)
    if len({Path(name).name for name in names}) < len(names):
        raise TpsfmError(f"{data / 'queries'}: two queries have one file name, by which the benchmark tells them apart")
    return Dataset(version, images, queries, model, seen)


def _reference(folder: Path, version: str | None) -> tuple[str, Model, dict[str, np.ndarray]]:
    version = version or next((name for name in MODELS if (folder / MODELS[name]).is_dir()), "1.0")
    model = folder / MODELS[version]
    if version == "1.0" and not model.is_dir():
        return version, *read_nvm(_there(folder / NVM), _there(folder / "database_intrinsics.txt"))
    with tempfile.TemporaryDirectory() as temporary:
        if not (model / "images.bin").exists():
            colmap.to_binary(_there(model / "images.txt").parent, Path(temporary))
            model = Path(temporary)
        seen = {name: rows[rows >= 0] for name, (_, rows) in read_observations(model).items()}
        return version, read_model(model), seen


def _there(path: Path) -> Path:
    if not path.exists():
        raise TpsfmError(f"{path} is missing; --data wants the official layout of Aachen Day-Night")
    return path


def read_retrieved(path: Path, data: Dataset) -> dict[str, list[str]]:
    """The images to match each query with, from rows "query image".

    Raises:
        TpsfmError: a row is bad, or a query has none.
    """
    found: dict[str, list[str]] = {query.name: [] for part in data.queries.values() for query in part}
    for number, row in enumerate(path.read_text().splitlines(), 1):
        query, _, image = row.strip().partition(" ")
        if query not in found or image not in data.model.images:
            raise TpsfmError(f"row {number} of {path} is not a query and an image of the reference model: {row!r}")
        found[query].append(image)
    for query, images in found.items():
        if not images:
            raise TpsfmError(f"{path} has no pair for the query '{query}'")
    return found


def read_truth(path: Path) -> dict[str, Pose]:
    """Poses by file name from rows `name qw qx qy qz tx ty tz`, world to camera."""
    truth = {}
    for number, row in enumerate(path.read_text().splitlines(), 1):
        try:
            name, *values = row.split()
            truth[Path(name).name] = to_pose([float(value) for value in values])
        except ValueError:
            raise TpsfmError(f"row {number} of {path} is not 'name qw qx qy qz tx ty tz': {row!r}") from None
    return truth


def to_pose(numbers: list[float]) -> Pose:
    """The pose of qw qx qy qz tx ty tz."""
    w, i, j, k, x, y, z = numbers
    return Pose(0, rotation_matrix([w, i, j, k]), np.array([x, y, z]))


def to_numbers(pose: Pose) -> list[float]:
    """qw qx qy qz tx ty tz of a pose."""
    return [*map(float, quaternion(pose.rotation)), *map(float, pose.translation)]


def read_nvm(path: Path, intrinsics: Path) -> tuple[Model, dict[str, np.ndarray]]:
    """Cameras, poses and points of the first model in one of VisualSFM's NVM files.

    Args:
        path: the file; a camera's row is `name focal qw qx qy qz cx cy cz distortion 0`, c its centre.
        intrinsics: rows `name MODEL width height params...`; they take the place of the NVM's own.

    Returns:
        The model, and by image name the rows of `Model.points` that it sees, int64 [K].

    Raises:
        TpsfmError: a file is missing or damaged, or a camera has no intrinsics.
    """
    cameras = {query.name: query.camera for query in list_queries(intrinsics)[1]}
    try:
        with path.open(encoding="utf-8") as file:
            rows = (row for row in map(str.split, file) if row)
            if next(rows, [""])[0] != "NVM_V3":
                raise ValueError
            places = {row[0]: np.array(row[2:9], float) for row in islice(rows, int(next(rows)[0]))}
            points, photos, seen = _points(rows)
    except OSError as error:
        raise TpsfmError(f"can't read {path}: {error.strerror}") from None
    except (ValueError, IndexError, StopIteration):
        raise TpsfmError(f"{path} is damaged or not an NVM_V3 file") from None
    ids: dict[tuple[str, int, int, tuple[float, ...]], int] = {}
    images = {}
    for name, place in places.items():
        camera = cameras.get(name)
        if camera is None:
            raise TpsfmError(f"{intrinsics} has no camera for '{name}' of {path}")
        key = (camera.model, camera.width, camera.height, tuple(camera.params))
        camera_id = ids.setdefault(key, len(ids) + 1)
        turn = rotation_matrix(place[:4].tolist())
        images[name] = Pose(camera_id, turn, -turn @ place[4:])
    model = Model(
        {number: Camera(name, width, height, list(params)) for (name, width, height, params), number in ids.items()},
        dict(sorted(images.items())),
        points,
        np.zeros((len(points), 3), np.uint8),
        np.zeros(len(points), np.float32),
        np.bincount(seen, minlength=len(points)).astype(np.int32),
    )
    order = np.argsort(photos, kind="stable")
    ends = np.searchsorted(photos[order], np.arange(1, len(places)))
    return model, dict(zip(places, np.split(seen[order], ends), strict=True))


def _points(rows: Iterator[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [P, 3], and of each observation the photo's number and the point's."""
    points, photos, lengths = [], [], []
    count = int(next(rows)[0])
    for row in islice(rows, count):  # x y z r g b, how many, and of each: photo, feature, x, y
        points.append([float(value) for value in row[:3]])
        lengths.append(int(row[6]))
        photos.append(np.array(row[7 : 7 + 4 * lengths[-1] : 4], np.int64))
        if len(photos[-1]) != lengths[-1]:
            raise ValueError
    if len(points) != count:
        raise ValueError
    seen = np.repeat(np.arange(len(points)), lengths)
    return np.array(points).reshape(-1, 3), np.concatenate([np.empty(0, np.int64), *photos]), seen

"""VisualSFM's NVM files: the model that Aachen Day-Night v1.0 comes with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry.model import Camera, Model, Pose, rotation_matrix
from tpsfm.localization.queries import list_queries


def read_nvm(path: Path, intrinsics: Path) -> tuple[Model, dict[str, np.ndarray]]:
    """Cameras, poses and points of the first model in an NVM file.

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
    ids: dict[tuple, int] = {}
    images = {}
    for name, place in places.items():
        camera = cameras.get(name)
        if camera is None:
            raise TpsfmError(f"{intrinsics} has no camera for '{name}' of {path}")
        camera_id = ids.setdefault((camera.model, camera.width, camera.height, *camera.params), len(ids) + 1)
        turn = rotation_matrix(place[:4])
        images[name] = Pose(camera_id, turn, -turn @ place[4:])
    model = Model(
        {camera_id: Camera(*key[:3], list(key[3:])) for key, camera_id in ids.items()},
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

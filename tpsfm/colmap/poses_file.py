"""Known cameras and poses, read from a COLMAP model, nerfstudio's transforms.json or a CSV file."""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tpsfm.colmap.convention import camera_from_colmap
from tpsfm.colmap.reader import read_model
from tpsfm.colmap.triangulation import to_binary
from tpsfm.errors import TpsfmError
from tpsfm.geometry import CAMERA_MODELS, Camera, Model, Pose, rotation_matrix

_COLUMNS = ("name", "qw", "qx", "qy", "qz", "tx", "ty", "tz", "model", "width", "height", "params")
_OPENGL = np.diag([1.0, -1.0, -1.0])  # nerfstudio's camera axes (y up, z back) to COLMAP's
_NERFSTUDIO = {  # COLMAP's model and nerfstudio's names of its distortion, by nerfstudio's
    "OPENCV": ("OPENCV", ("k1", "k2", "p1", "p2")),
    "PINHOLE": ("PINHOLE", ()),
    "SIMPLE_PINHOLE": ("PINHOLE", ()),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")),
}


def read_poses(path: str | Path) -> Model:
    """Cameras and poses, with the points where there are some.

    Args:
        path: a folder with a COLMAP model, binary or text; nerfstudio's transforms.json; or a CSV file with the header
            `name,qw,qx,qy,qz,tx,ty,tz,model,width,height,params`: world to camera, and COLMAP's camera, its parameters
            parted by spaces.

    Raises:
        TpsfmError: it is missing, damaged or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            to_binary(path, Path(folder))
            return read_model(folder)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is no text"
        raise TpsfmError(
            f"can't read the poses '{path}': {problem}; give a COLMAP model's folder, a JSON or a CSV"
        ) from None
    try:
        return _from_json(json.loads(text)) if path.suffix.lower() == ".json" else _from_csv(text.splitlines())
    except (ValueError, KeyError, TypeError, LookupError) as error:
        problem = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
        kind = "nerfstudio's transforms.json" if path.suffix.lower() == ".json" else f"a CSV of {','.join(_COLUMNS)}"
        raise TpsfmError(f"'{path}' is not {kind}: {problem}") from None


def poses_of(known: Model, names: Iterable[str], source: str | Path) -> Model:
    """The known poses of photos, under the photos' names.

    A pose is a photo's whose name it has, else whose file name it has where that is unique on both sides.

    Args:
        known: cameras and poses.
        names: of the photos.
        source: of the poses, for the message.

    Raises:
        TpsfmError: fewer than two of the photos have a pose.
    """
    names = list(names)
    here, there = (Counter(PurePosixPath(name).name for name in side) for side in (names, known.images))
    by_base = {PurePosixPath(name).name: name for name in known.images}
    images = {}
    for name in sorted(names):
        base = PurePosixPath(name).name
        unique = here[base] == there[base] == 1
        pose_name = name if name in known.images else by_base[base] if unique else None
        if pose_name is not None:
            images[name] = known.images[pose_name]
    if len(images) < 2:
        first = next(iter(known.images), "none at all")
        raise TpsfmError(
            f"{len(images)} of {len(names)} photos have a pose in '{source}', which names {first} first; a map needs"
            " at least two: are these the poses of other photos?"
        )
    used = {pose.camera_id for pose in images.values()}
    return Model.of_cameras({key: camera for key, camera in known.cameras.items() if key in used}, images)


def _from_json(content: Any) -> Model:
    cameras: dict[Camera, int] = {}
    images = {}
    for frame in content["frames"]:
        values = {**content, **frame}
        if values.get("camera_model", "OPENCV") not in _NERFSTUDIO:
            raise ValueError(f"a camera of model {values['camera_model']}, which has no equal in COLMAP")
        model, distortion = _NERFSTUDIO[values.get("camera_model", "OPENCV")]
        width, height = int(values["w"]), int(values["h"])
        focal = values["fl_x"]
        center = values.get("cx", width / 2), values.get("cy", height / 2)
        params = [focal, values.get("fl_y", focal), *center, *(values.get(key, 0.0) for key in distortion)]
        matrix = np.array(frame["transform_matrix"], float)
        if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
            raise ValueError(f"the matrix of {frame['file_path']} is not 4 x 4 numbers")
        rotation = (matrix[:3, :3] @ _OPENGL).T
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
            raise ValueError(f"the matrix of {frame['file_path']} is no rotation")
        images[PurePosixPath(frame["file_path"]).as_posix().removeprefix("./").removeprefix("images/")] = Pose(
            _number(cameras, camera_from_colmap(model, width, height, [float(value) for value in params])),
            rotation,
            -rotation @ matrix[:3, 3],
        )
    return Model.of_cameras({number: camera for camera, number in cameras.items()}, images)


def _from_csv(lines: list[str]) -> Model:
    cameras: dict[Camera, int] = {}
    images = {}
    for row in csv.DictReader(lines, skipinitialspace=True):
        if row["model"] not in CAMERA_MODELS:
            raise ValueError(f"the camera of {row['name']} has no model of COLMAP, but '{row['model']}'")
        params = [float(value) for value in row["params"].split()]
        if len(params) != CAMERA_MODELS[row["model"]][1]:
            raise ValueError(f"the camera of {row['name']} has {len(params)} parameters, not those of {row['model']}")
        wxyz = [float(row[key]) for key in ("qw", "qx", "qy", "qz")]
        if not 0.9 < np.linalg.norm(wxyz) < 1.1:
            raise ValueError(f"the quaternion of {row['name']} has not the length 1")
        camera = camera_from_colmap(row["model"], int(row["width"]), int(row["height"]), params)
        translation = np.array([float(row[key]) for key in ("tx", "ty", "tz")])
        images[row["name"]] = Pose(_number(cameras, camera), rotation_matrix(wxyz), translation)
    return Model.of_cameras({number: camera for camera, number in cameras.items()}, images)


def _number(cameras: dict[Camera, int], camera: Camera) -> int:
    """The number of a camera, a new one for a new camera."""
    key = Camera(camera.model, camera.width, camera.height, tuple(camera.params))  # type: ignore[arg-type]
    return cameras.setdefault(key, len(cameras) + 1)

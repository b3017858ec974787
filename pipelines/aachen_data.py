"""Aachen Day-Night on disk: images, queries, the reference model, pairs and poses."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.nvm import read_nvm
from tpsfm import TpsfmError, colmap
from tpsfm.geometry.model import Model, Pose, quaternion, read_model, read_observations, rotation_matrix
from tpsfm.localization.queries import Query, list_queries

LIGHTS = ("day", "night")
MODELS = {"1.1": "aachen_v_1_1", "1.0": "aachen_v_1"}
NVM = "aachen_cvpr2018_db.nvm"


@dataclass(frozen=True)
class Dataset:
    """What the layout holds.

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
    """Read the layout; `version` None is the newest there.

    Raises:
        TpsfmError: something is missing, which is named, or damaged.
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

"""The landmarks of a map: those keypoints of its images that show one of its points, with their descriptors."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from tpsfm.colmap import read_observations
from tpsfm.errors import TpsfmError
from tpsfm.features import Features
from tpsfm.features.store import FeatureStore
from tpsfm.geometry import Model
from tpsfm.io.workspace import Workspace

log = logging.getLogger("tpsfm")

Describe = Callable[[str, Features], np.ndarray]
"""Gives the global descriptor, float32 [G], of an image from its name and features."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of I images; image i owns rows starts[i] to starts[i + 1] of T.

    The arrays may be parts of a memory-mapped file: what is never asked for is never read.

    Attributes:
        names: of the images.
        sizes: (width, height) of the images, pixels.
        starts: int64 [I + 1].
        points: int32 [T], row of `Model.points`.
        keypoints: float32 [T, 2], xy in the image.
        scores: float32 [T], of the detection.
        descriptors: int8 [T, D], `Features.packed`.
    """

    names: list[str]
    sizes: list[tuple[int, int]]
    starts: np.ndarray
    points: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    descriptors: np.ndarray

    def of(self, image: int) -> slice:
        """The rows of an image."""
        return slice(self.starts[image], self.starts[image + 1])

    def features(self, image: int) -> Features:
        """An image's landmarks as a matcher takes them."""
        rows = self.of(image)
        return Features(self.keypoints[rows], self.scores[rows], self.descriptors[rows], self.sizes[image]).unpacked()


def load_landmarks(
    workspace: Workspace, model: Model, store: FeatureStore, describe: Describe, key: str
) -> tuple[Landmarks, np.ndarray]:
    """The landmarks and the global descriptors of a map's images.

    The first call for a map writes both to the file landmarks-KEY.bin in its workspace, in place of one of another key,
    and later ones map that into memory; for its size see `_row`. Where it can't be written they are held in memory.

    Args:
        workspace: of the map.
        model: the map.
        store: with the features of its images.
        describe: an image.
        key: digest of all that they depend on.

    Returns:
        Landmarks, and float32 [I, G] global descriptors, in the order of `model.images`.

    Raises:
        TpsfmError: a file is missing or damaged, or the features are not those the map was made from.
    """
    starts = np.cumsum([0, *(pose.observations for pose in model.images.values())])
    count = int(starts[-1])
    path = workspace.root / f"landmarks-{key}.bin"
    rows, vectors = _load(path, len(model.images), count) or _build(path, workspace, store, describe, count)
    cameras = [model.cameras[pose.camera_id] for pose in model.images.values()]
    sizes = [(camera.width, camera.height) for camera in cameras]
    fields = (rows[field] for field in ("point", "keypoint", "score", "descriptor"))
    return Landmarks(list(model.images), sizes, starts, *fields), vectors


def _row(dim: int) -> np.dtype:
    """A landmark in the file: 16 + D bytes."""
    return np.dtype([("point", "<i4"), ("keypoint", "<f4", 2), ("score", "<f4"), ("descriptor", "i1", dim)])


def _load(path: Path, images: int, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The rows and the global descriptors of a file; None where there is none, or it is damaged."""
    with suppress(OSError, ValueError, EOFError):
        rows = np.load(path, mmap_mode="c")  # "r" would make torch warn
        with open(path, "rb") as file:
            file.seek(rows.offset + rows.nbytes)
            vectors = np.load(file)
        if len(rows) == count and len(vectors) == images and rows.dtype == _row(rows.dtype["descriptor"].shape[0]):
            return rows, vectors
    return None


def _build(
    path: Path, workspace: Workspace, store: FeatureStore, describe: Describe, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read them from the features, and write them to a file if that is possible."""
    vectors: list[np.ndarray] = []
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    images = _image_rows(workspace, store, describe, vectors)
    first = next(images)
    try:
        with open(partial, "wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (count,)}
            np.lib.format.write_array_header_1_0(file, header)
            for rows in chain([first], images):
                rows.tofile(file)
            np.save(file, np.stack(vectors))
        os.replace(partial, path)
        for other in set(workspace.root.glob("landmarks-*.bin")) - {path}:
            other.unlink()
        return np.load(path, mmap_mode="c"), np.stack(vectors)
    except OSError as error:
        log.debug("%s: %s; held in memory", path, error)
        vectors.clear()
        images = _image_rows(workspace, store, describe, vectors)
        return np.concatenate(list(images)), np.stack(vectors)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _image_rows(
    workspace: Workspace,
    store: FeatureStore,
    describe: Describe,
    vectors: list[np.ndarray],
) -> Iterator[np.ndarray]:
    """The rows of one image after the other, its global descriptor added to `vectors`."""
    for name, (places, points) in read_observations(workspace.sparse).items():
        features = store.read(name)
        if len(features) != len(places) or not _agree(features, places):
            raise TpsfmError(
                f"{workspace.root}: its features of '{name}' are not those that the map was made from;"
                f" run 'tpsfm reconstruct' again"
            )
        vectors.append(describe(name, features))
        shown = np.flatnonzero(points >= 0)
        rows = np.empty(len(shown), _row(features.descriptors.shape[1]))
        rows["point"], rows["keypoint"] = points[shown], features.keypoints[shown]
        rows["score"], rows["descriptor"] = features.scores[shown], features.packed().descriptors[shown]
        yield rows


def _agree(features: Features, places: np.ndarray) -> bool:
    """Whether a map's keypoints [N, 2] are those of features, which alignment moved by a few pixels at most."""
    return np.abs(features.keypoints - places).max(initial=0) <= 0.01 * max(features.image_size)

"""The features of a map's points, at hand for matching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tpsfm.errors import TpsfmError
from tpsfm.geometry.model import read_observations
from tpsfm.io.store import FeatureStore
from tpsfm.io.workspace import Workspace
from tpsfm.matching.nearest import matching_type, mutual_nearest
from tpsfm.parallel import in_parallel

MIN_SHARED = 5  # points that two images of one place share


@dataclass(frozen=True)
class Landmarks:
    """The keypoints of a map's images that show one of its points; image i owns rows starts[i] to starts[i + 1].

    Attributes:
        names: of the I images.
        starts: int64 [I + 1].
        points: int32 [T], row of `Model.points`.
        keypoints: float32 [T, 2].
        descriptors: float16 [T, D], on the device where they are matched.
    """

    names: list[str]
    starts: np.ndarray
    points: np.ndarray
    keypoints: np.ndarray
    descriptors: torch.Tensor

    def of(self, image: int) -> slice:
        """The rows of an image."""
        return slice(self.starts[image], self.starts[image + 1])


@dataclass(frozen=True)
class Matches:
    """Matches of a query's keypoints with map points, as M rows.

    Attributes:
        keypoints: int64 [M], index of the query's keypoint.
        landmarks: int64 [M], row in `Landmarks`.
        images: int64 [M], index of the map's image.
        similarity: float32 [M], cosine of the descriptors.
    """

    keypoints: np.ndarray
    landmarks: np.ndarray
    images: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.keypoints)

    def __add__(self, others: Matches) -> Matches:
        return Matches(*(np.concatenate(both) for both in zip(vars(self).values(), vars(others).values(), strict=True)))

    @classmethod
    def none(cls) -> Matches:
        """No matches."""
        index = np.empty(0, np.int64)
        return cls(index, index, index, np.empty(0, np.float32))

    def select(self, index: np.ndarray) -> Matches:
        """The matches at `index` (a boolean mask [M] or integers)."""
        return Matches(self.keypoints[index], self.landmarks[index], self.images[index], self.similarity[index])


def read_landmarks(workspace: Workspace, store: FeatureStore, device: torch.device, visit=None) -> Landmarks:
    """The landmarks of a workspace's map; `visit(name, features)` is called with all features of each image.

    Raises:
        TpsfmError: a file is missing or damaged, or the features are not those the map was made from.
    """
    points, keypoints, descriptors, names = [], [], [], []
    for name, (places, rows) in read_observations(workspace.sparse).items():
        features = store.read(name)
        if len(features) != len(places) or np.abs(features.keypoints - places).max(initial=0) > 0.01:
            raise TpsfmError(
                f"{workspace.root}: its features of '{name}' are not those that the map was made from;"
                f" run 'tpsfm reconstruct' again"
            )
        if visit:
            visit(name, features)
        shown = np.flatnonzero(rows >= 0)
        names.append(name)
        points.append(rows[shown].astype(np.int32))
        keypoints.append(features.keypoints[shown])
        descriptors.append(torch.from_numpy(features.descriptors[shown]).half())
    return Landmarks(
        names,
        np.cumsum([0, *map(len, points)]),
        np.concatenate(points),
        np.concatenate(keypoints),
        torch.cat(descriptors).to(device),
    )


def match_landmarks(
    descriptors: np.ndarray, landmarks: Landmarks, images: list[int], ratio: float | None, min_similarity: float | None
) -> Matches:
    """Mutual nearest neighbours of a query's descriptors [N, D] and the landmarks of each of some images."""
    on = landmarks.descriptors.device
    dtype = matching_type(on)
    query = torch.from_numpy(descriptors).to(on, dtype)
    jobs = (
        (image, (query, landmarks.descriptors[landmarks.of(image)].to(dtype), min_similarity, ratio))
        for image in images
    )
    found = Matches.none()
    for image, (pairs, similarity) in in_parallel(mutual_nearest, jobs):
        ours, theirs = pairs.astype(np.int64).T
        found += Matches(ours, theirs + landmarks.starts[image], np.full(len(pairs), image), similarity)
    return found


def best_point_each(matches: Matches, points: np.ndarray) -> Matches:
    """One match for each keypoint of the query: the point that most images gave it, of equals the most similar.

    Args:
        points: int [T], `Landmarks.points`.
    """
    pairs = np.stack([matches.keypoints, points[matches.landmarks]], 1)
    _, pair, votes = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort([-matches.similarity, -votes[pair.ravel()], matches.keypoints])
    first = np.unique(matches.keypoints[order], return_index=True)[1]
    return matches.select(order[first])


def covisible_groups(landmarks: Landmarks, images: list[int]) -> list[list[int]]:
    """Images grouped so that those that share points are together, each group in the order given."""
    if not images:
        return []
    points = [np.unique(landmarks.points[landmarks.of(image)]) for image in images]
    columns, column = np.unique(np.concatenate(points), return_inverse=True)
    seen = np.zeros((len(images), len(columns)), np.float32)
    seen[np.repeat(np.arange(len(images)), [len(part) for part in points]), column.ravel()] = 1
    together = seen @ seen.T >= MIN_SHARED
    groups: list[list[int]] = []
    left = list(range(len(images)))
    while left:
        group, frontier = set(), {left[0]}
        while frontier:
            group |= frontier
            frontier = {other for one in frontier for other in np.flatnonzero(together[one])} - group
        groups.append([images[one] for one in sorted(group)])
        left = [one for one in left if one not in group]
    return groups

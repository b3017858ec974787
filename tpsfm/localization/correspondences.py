"""Matches of a query with a map's landmarks, and which of them a pose is estimated from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tpsfm.features import Features
from tpsfm.localization.landmarks import Landmarks
from tpsfm.matching import Matcher
from tpsfm.parallel import in_parallel

MIN_SHARED = 5  # points that two images share at least to count as covisible


@dataclass(frozen=True, eq=False)
class Correspondences:
    """Matches of a query's keypoints with landmarks, as M rows.

    Attributes:
        keypoints: int64 [M], index of the query's keypoint.
        landmarks: int64 [M], row in `Landmarks`.
        images: int64 [M], index of the map's image.
        scores: float32 [M] of the matcher, higher is better.
    """

    keypoints: np.ndarray
    landmarks: np.ndarray
    images: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.keypoints)

    def __add__(self, others: Correspondences) -> Correspondences:
        both = zip(vars(self).values(), vars(others).values(), strict=True)
        return Correspondences(*(np.concatenate(arrays) for arrays in both))

    @classmethod
    def none(cls) -> Correspondences:
        """No correspondences."""
        index = np.empty(0, np.int64)
        return cls(index, index, index, np.empty(0, np.float32))

    def select(self, index: np.ndarray) -> Correspondences:
        """Those at `index` (a boolean mask [M] or integers)."""
        return Correspondences(self.keypoints[index], self.landmarks[index], self.images[index], self.scores[index])


def match_landmarks(query: Features, landmarks: Landmarks, images: Sequence[int], matcher: Matcher) -> Correspondences:
    """Match a query's features with the landmarks of each of some images.

    Args:
        images: indices into `landmarks.names`.
    """
    prepared = matcher.prepare(query)

    def match(image: int) -> tuple[np.ndarray, np.ndarray]:
        return matcher.match(prepared, matcher.prepare(landmarks.features(image)))

    found = [Correspondences.none()]
    for image, (pairs, scores) in in_parallel(match, ((image, (image,)) for image in images)):
        ours, theirs = pairs.astype(np.int64).T
        found.append(Correspondences(ours, theirs + landmarks.starts[image], np.full(len(pairs), image), scores))
    return sum(found[1:], found[0])


def covisible_groups(landmarks: Landmarks, images: Sequence[int]) -> list[list[int]]:
    """The connected components of images that share at least `MIN_SHARED` points, each in the order given."""
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
        group: set[int] = set()
        frontier = {left[0]}
        while frontier:
            group |= frontier
            frontier = {int(other) for one in frontier for other in np.flatnonzero(together[one])} - group
        groups.append([images[one] for one in sorted(group)])
        left = [one for one in left if one not in group]
    return groups


def best_point_each(matches: Correspondences, points: np.ndarray) -> Correspondences:
    """One match for each keypoint of the query: the point that most images gave it, of equals the best score.

    Args:
        points: int [T], `Landmarks.points`.
    """
    pairs = np.stack([matches.keypoints, points[matches.landmarks]], 1)
    _, pair, votes = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort([-matches.scores, -votes[pair.ravel()], matches.keypoints])
    first = np.unique(matches.keypoints[order], return_index=True)[1]
    return matches.select(order[first])

"""Errors of localized photos in the frame and unit of known poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import align, rotation_angle
from tpsfm.model import Pose

# (share of the extent, degrees): fine, the goal of the hold-out, coarse.
THRESHOLDS = ((0.0025, 0.25), (0.005, 0.5), (0.02, 2.0))
_MOST_TRIPLES = 2000
_OUTLIER = 5.0  # times the median distance


def robust_similarity(source: np.ndarray, target: np.ndarray, seed: int = 0) -> tuple[float, np.ndarray, np.ndarray]:
    """The similarity that takes points onto others, though some of them are wrong.

    Of the similarities through three points the one with the least median distance (Rousseeuw, 1984), then least
    squares over the points within five times that median.

    Args:
        source, target: [N, 3], N >= 3, not all on a line.
        seed: of the choice of triples, where there are too many to try all.

    Returns:
        scale, rotation [3, 3] and translation [3]: target ≈ scale · source @ rotation.T + translation.

    Raises:
        TpsfmError: fewer than three points.
    """
    if len(source) < 3:
        raise TpsfmError(f"a map can be laid over known poses by at least 3 common photos, there are {len(source)}")
    triples = np.array(list(combinations(range(len(source)), 3)))
    if len(triples) > _MOST_TRIPLES:
        triples = np.random.default_rng(seed).permutation(triples)[:_MOST_TRIPLES]

    def distances(similarity) -> np.ndarray:
        scale, rotation, translation = similarity
        return np.linalg.norm(scale * source @ rotation.T + translation - target, axis=1)

    found = [distances(align(source[triple], target[triple])) for triple in triples]
    best = min(found, key=np.median)
    kept = best <= max(_OUTLIER * np.median(best), np.sort(best)[2])
    return align(source[kept], target[kept])


def localization_errors(
    truth: Mapping[str, Pose], mapped: Mapping[str, Pose], localized: Mapping[str, Pose | None]
) -> tuple[np.ndarray, np.ndarray]:
    """How far localized photos are from their known poses.

    The map is laid over the known poses by its own cameras alone; those of the queries have no say in it.

    Args:
        truth: known poses by name, of the map's photos and of the queries.
        mapped: the map's own poses.
        localized: the queries' poses in the map, None where there is none; all count, in this order.

    Returns:
        Distances of the centres [N] in the truth's unit and rotation angles [N] in degrees; inf without a pose.

    Raises:
        TpsfmError: fewer than three photos of the map have a known pose.
    """
    names = sorted(set(truth) & set(mapped))
    known = np.array([truth[name].center for name in names]).reshape(-1, 3)
    found = np.array([mapped[name].center for name in names]).reshape(-1, 3)
    scale, rotation, translation = robust_similarity(found, known)
    position, angle = [], []
    for name, pose in localized.items():
        if pose is None:
            position.append(np.inf)
            angle.append(np.inf)
            continue
        center = scale * rotation @ pose.center + translation
        position.append(np.linalg.norm(center - truth[name].center))
        angle.append(np.degrees(rotation_angle(truth[name].rotation @ rotation @ pose.rotation.T)))
    return np.array(position), np.array(angle)


def extent(truth: Mapping[str, Pose]) -> float:
    """The greatest distance between two known cameras."""
    centers = np.array([pose.center for pose in truth.values()])
    return float(np.linalg.norm(centers[:, None] - centers, axis=2).max())


def accuracy(position: np.ndarray, rotation: np.ndarray, thresholds: Sequence[tuple[float, float]]) -> list[float]:
    """Share of the photos within each (position, rotation), both of them, as on the visual localization benchmarks.

    Args:
        position, rotation: [N], inf where a photo has no pose.
        thresholds: in the units of the two.
    """
    if not len(position):
        return [0.0 for _ in thresholds]
    return [float(np.mean((position <= most) & (rotation <= degrees))) for most, degrees in thresholds]

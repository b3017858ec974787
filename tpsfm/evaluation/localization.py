"""Errors of localized photos in the frame and unit of known poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Pose, Sim3, rotation_angle

# (share of the extent, degrees): fine, the goal of the hold-out, coarse.
THRESHOLDS = ((0.0025, 0.25), (0.005, 0.5), (0.02, 2.0))
_MOST_PAIRS = 2000
_OUTLIER = 5.0  # times the median residual


def align_map(truth: Mapping[str, Pose], mapped: Mapping[str, Pose], seed: int = 0) -> Sim3:
    """The similarity that aligns a map with known poses, robust to wrong cameras in the map.

    Each camera contributes its centre and the tips of its three axes, half the truth's extent long: centres alone
    often lie near a line, which leaves the rotation about it undetermined. Of the fits to two cameras the one with
    the least median residual is taken (Rousseeuw, 1984), then least squares over the cameras within five times that.

    Args:
        truth, mapped: poses by name; those in both count.
        seed: of the choice of pairs, where there are too many to try all.

    Returns:
        From the map's world to the truth's.

    Raises:
        TpsfmError: fewer than three photos are in both.
    """
    names = sorted(set(truth) & set(mapped))
    if len(names) < 3:
        raise TpsfmError(f"a map is aligned with known poses by at least 3 photos with both, there are {len(names)}")
    length = extent(truth) / 2
    turns = np.array([truth[name].rotation.T @ mapped[name].rotation for name in names])
    target, source = (np.array([poses[name].center for name in names]) for poses in (truth, mapped))

    def fit(rows: np.ndarray) -> Sim3:
        a, b = target[rows] - target[rows].mean(0), source[rows] - source[rows].mean(0)
        scale = float(np.sqrt((a**2).sum() / max((b**2).sum(), 1e-300)))  # Horn, 1987: whatever the rotation
        u, _, vt = np.linalg.svd(scale * a.T @ b + length**2 * turns[rows].sum(0))
        rotation = u * [1, 1, np.sign(np.linalg.det(u @ vt))] @ vt
        return Sim3(scale, rotation, target[rows].mean(0) - scale * rotation @ source[rows].mean(0))

    def residuals(onto: Sim3) -> np.ndarray:
        distance = np.linalg.norm(onto(source) - target, axis=1)
        return distance + length * np.array([rotation_angle(onto.rotation.T @ turn) for turn in turns])

    pairs = np.array(list(combinations(range(len(names)), 2)))
    if len(pairs) > _MOST_PAIRS:
        pairs = np.random.default_rng(seed).permutation(pairs)[:_MOST_PAIRS]
    best = min((residuals(fit(pair)) for pair in pairs), key=np.median)
    return fit(np.flatnonzero(best <= max(_OUTLIER * np.median(best), np.sort(best)[2])))


def localization_errors(
    truth: Mapping[str, Pose], mapped: Mapping[str, Pose], localized: Mapping[str, Pose | None]
) -> tuple[np.ndarray, np.ndarray]:
    """How far localized photos are from their known poses.

    The map is aligned with the known poses of its own photos; the queries are not used for that.

    Args:
        truth: known poses by name, of the map's photos and of the queries.
        mapped: the map's own poses.
        localized: the queries' poses in the map, None where there is none; in this order.

    Returns:
        Distances of the centres [N] in the truth's unit and rotation angles [N] in degrees; inf without a pose.

    Raises:
        TpsfmError: fewer than three photos of the map have a known pose.
    """
    onto = align_map(truth, mapped)
    position, angle = [], []
    for name, pose in localized.items():
        if pose is None:
            position.append(np.inf)
            angle.append(np.inf)
            continue
        center = onto(pose.center)
        position.append(float(np.linalg.norm(center - truth[name].center)))
        angle.append(float(np.degrees(rotation_angle(truth[name].rotation @ onto.rotation @ pose.rotation.T))))
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

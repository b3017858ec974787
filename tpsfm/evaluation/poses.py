"""Errors of camera poses against known ones, independent of the map's frame and scale."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Pose, Sim3, rotation_angle


def load_poses(path: str | Path) -> dict[str, Pose]:
    """Known poses from a JSON file: {image name: {"R": 3x3 world to camera, "C": centre, ...}}.

    Returns:
        Poses by image name; their `camera_id` is 0 throughout, since intrinsics are not read.

    Raises:
        TpsfmError: the file is missing or not of that form.
    """
    try:
        entries = json.loads(Path(path).read_text())
        poses = {}
        for name, entry in entries.items():
            rotation = np.asarray(entry["R"], float).reshape(3, 3)
            poses[name] = Pose(0, rotation, -rotation @ np.asarray(entry["C"], float).reshape(3))
        return poses
    except OSError as error:
        raise TpsfmError(f"can't read the known poses '{path}': {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TpsfmError(
            f"'{path}' doesn't hold known poses: a JSON object of image name -> R (3x3) and C (3) is needed"
        ) from None


def pose_errors(truth: Mapping[str, Pose], estimated: Mapping[str, Pose]) -> np.ndarray:
    """The relative pose error of every pair of images in `truth`.

    Args:
        truth: known poses by image name.
        estimated: a map's poses by image name (`Model.images`); names not in `truth` are ignored.

    Returns:
        float64 [P], degrees, for the pairs of sorted names (0, 1), (0, 2), ..., (1, 2), ...: the larger of
        the relative rotation's angle and the angle between the directions of the relative translations; inf
        where one of the two has no estimated pose.
    """
    return np.array(
        [
            _pair_error(truth[a], truth[b], estimated[a], estimated[b]) if a in estimated and b in estimated else np.inf
            for a, b in combinations(sorted(truth), 2)
        ]
    )


def pose_auc(errors: np.ndarray, thresholds: Sequence[float] = (1, 3, 5, 10)) -> list[float]:
    """Area under the curve of recall over the error, from 0 to each threshold, as a share of the whole.

    The recall is a staircase (the share of errors <= x), so the area is exact, without any binning.

    Args:
        errors: [P], degrees; inf counts as wrong.
        thresholds: degrees.

    Returns:
        One number in [0, 1] per threshold; 0 where there are no errors at all.
    """
    errors = np.asarray(errors, float)
    if errors.size == 0:
        return [0.0 for _ in thresholds]
    return [float(np.clip(1 - errors / threshold, 0, None).mean()) for threshold in thresholds]


def aligned_errors(truth: Mapping[str, Pose], estimated: Mapping[str, Pose]) -> tuple[np.ndarray, np.ndarray]:
    """Errors of each camera after a map is aligned with the known centres.

    Args:
        truth, estimated: poses by image name; those in both count, sorted by name.

    Returns:
        Distances between the centres [N] in the truth's unit, and rotation angles [N] in degrees.
    """
    names = sorted(set(truth) & set(estimated))
    if len(names) < 2:
        return np.zeros(0), np.zeros(0)
    known = np.array([truth[name].center for name in names])
    found = np.array([estimated[name].center for name in names])
    onto = Sim3.fit(found, known)
    distance = np.linalg.norm(onto(found) - known, axis=1)
    angles = [rotation_angle(truth[name].rotation @ onto.rotation @ estimated[name].rotation.T) for name in names]
    return distance, np.degrees(angles)


def _pair_error(truth0: Pose, truth1: Pose, pose0: Pose, pose1: Pose) -> float:
    angle = rotation_angle(_relative_rotation(truth0, truth1) @ _relative_rotation(pose0, pose1).T)
    direction = _angle(_baseline(truth0, truth1), _baseline(pose0, pose1))
    return float(np.degrees(max(angle, direction)))


def _relative_rotation(pose0: Pose, pose1: Pose) -> np.ndarray:
    return pose1.rotation @ pose0.rotation.T


def _baseline(pose0: Pose, pose1: Pose) -> np.ndarray:
    """float64 [3], the translation from camera 0's frame to camera 1's."""
    return pose1.rotation @ (pose0.center - pose1.center)


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    """The angle between two vectors in radians; 0 where `a` has no direction, π where only `b` has none."""
    if not a.any():
        return 0.0
    if not b.any():
        return np.pi
    return float(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))

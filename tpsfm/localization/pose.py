"""From matches with map points to a pose, or to an honest no."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tpsfm import colmap
from tpsfm.geometry.model import Camera, Pose
from tpsfm.localization.intrinsics import Intrinsics

MAX_ERROR = 6.0  # pixels of a photo as large as the extractor saw it
MIN_INLIERS = 20
MIN_RATIO = 0.04  # of the matches
MIN_CELLS = 12  # of the image, each 1/12 of its longer side wide, that hold inliers
CELLS = 12
TRIALS = 10_000
# Measured on rendered scenes, so that 95 % of the true errors lie within the uncertainty: so many inliers say as much
# as one that is independent of all others; and the turn that all share, of the map's mean reprojection error.
DEPENDENT = 4.0
COMMON_TURN = 0.1
QUICK_TRIALS, QUICK_MATCHES = 2_000, 1_000  # for each of several focal lengths


@dataclass
class Localization:
    """What is known of one query.

    Attributes:
        name: of the photo.
        status: "localized" or "failed".
        reason: why it failed, "" where it is localized.
        pose: world to camera in the map's frame, or None.
        camera: its intrinsics, or None; `camera_source` says whence: "given", "exif", "map" or "estimated".
        inliers: matches that agree with the pose (of a failed query: with the best one that was found).
        ratio: their share of the matches.
        position_uncertainty: radius of the ball about the camera's centre, in the map's unit, that holds the true one
            with 95 % probability; nan where there is no pose.
        rotation_uncertainty: the same for the rotation angle, degrees.
        covariance: float64 [6, 6] of a small rotation w (radians, R = exp([w]x) R_estimated) and the translation,
            from the inliers' residuals and `with_map_errors`.
        retrieved: the map's images most like it, the most like first.
        seconds: wall time by step.
        matches: int64 [inliers, 2], indices of the query's keypoints and rows of `Model.points`.
        best_image: the map's image that shares most inliers, "" where there is none.
        lines: float32 [K, 4], those inliers: xy in the query, xy in `best_image`.
    """

    name: str
    status: str = "failed"
    reason: str = ""
    pose: Pose | None = None
    camera: Camera | None = None
    camera_source: str = ""
    inliers: int = 0
    ratio: float = 0.0
    position_uncertainty: float = float("nan")
    rotation_uncertainty: float = float("nan")
    covariance: np.ndarray | None = None
    retrieved: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    matches: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64), repr=False)
    best_image: str = ""
    lines: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.float32), repr=False)


def estimate(
    keypoints: np.ndarray, points: np.ndarray, intrinsics: Intrinsics, scale: float, seed: int = 0
) -> colmap.AbsolutePose | None:
    """The pose with the most inliers over the candidate cameras, refined.

    Args:
        keypoints: [N, 2], xy in the query.
        points: [N, 3], the map point of each.
        intrinsics: of the query.
        scale: how many of its pixels are one of the extractor's.
        seed: of RANSAC.
    """
    camera = intrinsics.candidates[0]
    max_error = MAX_ERROR * scale
    if len(intrinsics.candidates) > 1:
        few = slice(None, None, 1 + len(keypoints) // QUICK_MATCHES)
        tried = [
            colmap.absolute_pose(keypoints[few], points[few], candidate, max_error, True, False, QUICK_TRIALS, seed)
            for candidate in intrinsics.candidates
        ]
        tried = [found for found in tried if found is not None]
        if not tried:
            return None
        camera = max(tried, key=lambda found: found.inliers.sum()).camera
    refine = intrinsics.approximate
    return colmap.absolute_pose(keypoints, points, camera, max_error, refine, refine, TRIALS, seed)


def objection(inliers: int, matches: int, occupied: int) -> str:
    """Why a pose can't be trusted, "" where it can.

    Args:
        inliers: matches that agree with it.
        matches: all of them.
        occupied: cells of the image that hold inliers, by `occupied_cells`.
    """
    if inliers < MIN_INLIERS:
        return f"no pose agrees with enough matches (the best with {inliers} of {matches}; {MIN_INLIERS} are needed)"
    if inliers < MIN_RATIO * matches:
        return f"the best pose agrees with only {inliers} of {matches} matches ({100 * inliers / matches:.1f} %)"
    if occupied < MIN_CELLS:
        return f"the {inliers} inliers of the best pose lie together in a small part of the photo"
    return ""


def occupied_cells(keypoints: np.ndarray, camera: Camera) -> int:
    """How many square cells of the image, `CELLS` along its longer side, hold one of the keypoints [N, 2]."""
    cells = (keypoints / (max(camera.width, camera.height) / CELLS)).astype(int)
    return len(np.unique(cells, axis=0))


def with_map_errors(pose: Pose, covariance: np.ndarray, angle: float) -> np.ndarray:
    """A pose's covariance [6, 6] with what the map itself has wrong, which more inliers do not average out.

    Points that the same photos triangulated are off together, and so are all keypoints where the map's lens is: these
    move as if the camera were turned in its place.

    Args:
        angle: the map's mean reprojection error, radians.
    """
    turn = np.vstack([np.eye(3), -_cross(pose.translation)])  # R -> exp(w) R at the same centre: t -> exp(w) t
    return DEPENDENT * covariance + (COMMON_TURN * angle) ** 2 * turn @ turn.T


def uncertainty(pose: Pose, covariance: np.ndarray) -> tuple[float, float]:
    """Radii that hold the true centre and the true rotation with 95 % probability.

    Returns:
        position (the map's unit), rotation (degrees).
    """
    jacobian = -pose.rotation.T @ np.hstack([_cross(pose.translation), np.eye(3)])  # of the centre -R^T t
    return _radius(jacobian @ covariance @ jacobian.T), float(np.degrees(_radius(covariance[:3, :3])))


def _cross(vector: np.ndarray) -> np.ndarray:
    """float64 [3, 3], the matrix of the cross product with a vector."""
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def _radius(covariance: np.ndarray) -> float:
    """The 95 % quantile of the length of a normally distributed vector [3]."""
    variances = np.clip(np.linalg.eigvalsh(covariance), 0, None)
    samples = np.random.default_rng(0).standard_normal((20_000, 3)) ** 2
    return float(np.sqrt(np.quantile(samples @ variances, 0.95)))

"""Accept an estimated pose or reject it, and tell how far off it may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpsfm.geometry import Camera, Pose
from tpsfm.localization.estimation import MIN_INLIERS, Estimate

MIN_RATIO = 0.04  # of inliers to correspondences
GRID = 12  # square cells along the photo's longer side
MIN_CELLS = 12  # that hold inliers
# Both are measured on rendered scenes (python -m pipelines.calibration), so that the uncertainty holds the true pose in
# 95 % of the cases. Covariance inflation for correlated inliers: their errors are not independent, so that they
# determine the pose as well as a fifth as many independent ones would. And the standard deviation of the rotation
# that all of them have in common, as a share of the map's mean reprojection error.
COVARIANCE_INFLATION = 5.0
COMMON_ROTATION = 0.1


@dataclass(frozen=True, eq=False)
class Attempt:
    """An estimate, and why it is rejected, "" where it is accepted."""

    estimate: Estimate
    rejection: str

    @property
    def accepted(self) -> bool:
        """Whether its pose can be trusted."""
        return not self.rejection


def accept(estimate: Estimate, keypoints: np.ndarray) -> Attempt:
    """Accept an estimate or reject it.

    Args:
        keypoints: [N, 2], xy of all the query's keypoints.
    """
    matches = len(estimate.correspondences)
    if estimate.solution is None:
        few = "too few matches with the map" if matches < MIN_INLIERS else "no pose agrees with the matches"
        return Attempt(estimate, f"{few} ({matches})")
    inliers = keypoints[estimate.correspondences.keypoints[estimate.solution.inliers]]
    cells = occupied_cells(inliers, estimate.solution.camera)
    return Attempt(estimate, rejection_reason(len(inliers), matches, cells))


def rejection_reason(inliers: int, matches: int, occupied: int) -> str:
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
    """How many square cells of the image, `GRID` along its longer side, hold one of the keypoints [N, 2]."""
    cells = (keypoints / (max(camera.width, camera.height) / GRID)).astype(int)
    return len(np.unique(cells, axis=0))


def inflate_covariance(pose: Pose, covariance: np.ndarray, angle: float) -> np.ndarray:
    """A pose's covariance [6, 6], inflated by the errors of the map, which more inliers do not average out.

    Points triangulated from the same photos have errors in common, which inflates the covariance. Errors of the map's
    intrinsics move all keypoints alike, as a rotation of the camera about its centre would.

    Args:
        angle: the map's mean reprojection error, radians.
    """
    turn = np.vstack([np.eye(3), -_cross(pose.translation)])  # R -> exp(w) R at the same centre: t -> exp(w) t
    return COVARIANCE_INFLATION * covariance + (COMMON_ROTATION * angle) ** 2 * turn @ turn.T


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

"""A similarity between positions of which some are wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpsfm.geometry.motion import Sim3

_TRIALS = 2000
_MAX_TILT = np.radians(10)  # the error of the rotation about the positions' longest axis that is still good enough
_MIN_SPREAD = 3.0  # a scale needs positions spread by so many times their residuals


@dataclass(frozen=True)
class Fit:
    """How positions fit others.

    Attributes:
        transform: from the first to the others.
        inliers: bool [N].
        residuals: float64 [N, 3], the others less the transformed.
        objection: what is wrong with it, "" if nothing.
    """

    transform: Sim3
    inliers: np.ndarray
    residuals: np.ndarray
    objection: str = ""

    def rmse(self) -> tuple[float, float]:
        """Of the inliers: over the first two axes together, and over the third."""
        squares = (self.residuals[self.inliers] ** 2).mean(0) if self.inliers.any() else np.full(3, np.nan)
        return float(np.sqrt(squares[:2].sum())), float(np.sqrt(squares[2]))


def fit_positions(source: np.ndarray, target: np.ndarray, max_error: np.ndarray, seed: int = 0) -> Fit | None:
    """The similarity that most positions agree with, by RANSAC with truncated squares (MSAC), and least squares.

    Args:
        source, target: float64 [N, 3].
        max_error: [3], how far an inlier may be off along each axis of the target.

    Returns:
        None where fewer than three positions agree. Source of MSAC: Torr and Zisserman, CVIU 2000.
    """
    count = len(source)
    if count < 3:
        return None
    rng = np.random.default_rng(seed)
    best, best_cost = None, np.inf
    for _ in range(_TRIALS):
        sample = rng.choice(count, 3, replace=False)
        cost = _cost(Sim3.fit(source[sample], target[sample]), source, target, max_error)
        if cost.sum() < best_cost:
            best, best_cost = cost < 1, cost.sum()
    assert best is not None
    for _ in range(10):
        if best.sum() < 3:
            return None
        transform = Sim3.fit(source[best], target[best])
        again = _cost(transform, source, target, max_error) < 1
        if (again == best).all():
            break
        best = again
    fit = Fit(transform, best, target - transform(source))
    return Fit(fit.transform, fit.inliers, fit.residuals, _objection(transform(source[best]), fit))


def _cost(transform: Sim3, source: np.ndarray, target: np.ndarray, max_error: np.ndarray) -> np.ndarray:
    """Squared errors in units of the largest that an inlier has, 1 where they are above."""
    return np.minimum((((target - transform(source)) / max_error) ** 2).max(1), 1)


def _objection(positions: np.ndarray, fit: Fit) -> str:
    """What is wrong with a fit whose inliers are at `positions` after the transform, free of the target's errors."""
    horizontal, vertical = fit.rmse()
    error = np.hypot(horizontal, vertical) / np.sqrt(3)  # along one axis
    spread = np.linalg.svd(positions - positions.mean(0), compute_uv=False) / np.sqrt(len(positions))
    if spread[0] < 1e-3 or spread[0] < _MIN_SPREAD * error / np.sqrt(len(positions)):
        return f"the positions lie within {2 * spread[0]:.2g} m, too close together for their errors of {error:.2g} m"
    if spread[1] < 1e-3 * spread[0] or error / (np.sqrt(len(positions)) * spread[1]) > _MAX_TILT:
        return (
            "the positions lie on a line, about which the map could turn; give ground control points beside it, or more"
            " exact positions"
        )
    return ""

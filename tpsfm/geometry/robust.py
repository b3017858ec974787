"""A similarity between positions of which some are wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tpsfm.geometry.motion import Sim3, turn_about

_TRIALS = 2000
UNKNOWNS = 7  # of a similarity, by which residuals are too small
_MIN_SPREAD = 3.0  # a scale needs positions spread by so many times their residuals


@dataclass(frozen=True)
class Fit:
    """How positions fit others.

    Attributes:
        transform: from the first to the others.
        positions: float64 [N, 3], the first after it.
        inliers: bool [N].
        residuals: float64 [N, 3], the others less `positions`.
        line: float64 [3], the direction of the inliers' longest axis, of length 1.
        tilt: standard deviation of the turn about it in radians; infinite where they lie on a line.
        objection: what else is wrong with it, "" if nothing.
    """

    transform: Sim3
    positions: np.ndarray
    inliers: np.ndarray
    residuals: np.ndarray
    line: np.ndarray
    tilt: float
    objection: str = ""

    def turned(self, angle: float) -> Fit:
        """The same, turned about the inliers' longest axis by an angle in radians."""
        turn = turn_about(self.line, angle, self.positions[self.inliers].mean(0))
        old, positions = self.transform, turn(self.positions)
        transform = Sim3(old.scale, turn.rotation @ old.rotation, turn(old.translation))
        return replace(
            self, transform=transform, positions=positions, residuals=self.residuals + self.positions - positions
        )

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
    positions = transform(source)
    residuals = target - positions
    return Fit(transform, positions, best, residuals, *_described(positions[best], residuals[best]))


def _cost(transform: Sim3, source: np.ndarray, target: np.ndarray, max_error: np.ndarray) -> np.ndarray:
    """Squared errors in units of the largest that an inlier has, 1 where they are above."""
    return np.minimum((((target - transform(source)) / max_error) ** 2).max(1), 1)


def _described(inliers: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, float, str]:
    """The line of a fit's inliers, what they tell of the turn about it, and the objection."""
    count = len(inliers)
    _, spread, axes = np.linalg.svd(inliers - inliers.mean(0), full_matrices=False)
    long, wide = spread[:2] / np.sqrt(count)
    error = float(np.sqrt((residuals**2).mean()))  # along one axis
    objection = ""
    if long < 1e-3:
        objection = f"all {count} positions are at the same place"
    elif long < _MIN_SPREAD * error / np.sqrt(count):
        objection = f"the positions lie within {2 * long:.2g} m, too close together for their errors of {error:.2g} m"
    across = np.sqrt(((residuals @ np.cross(axes[0], axes[1])) ** 2).sum() / max(count - UNKNOWNS / 3, 1))
    tilt = np.inf if wide <= 1e-3 * long else across / (np.sqrt(count) * wide)
    return axes[0], float(tilt), objection

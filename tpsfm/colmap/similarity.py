"""Similarities between points of which many are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsfm.colmap.loading import pycolmap
from tpsfm.geometry import Sim3


def robust_similarity(
    source: np.ndarray, target: np.ndarray, max_error: float, seed: int = 0
) -> tuple[Sim3, np.ndarray]:
    """The similarity that most points agree with, by LO-RANSAC, then by least squares of those that agree.

    Args:
        source, target: float64 [N, 3], N >= 3.
        max_error: distance in the target's unit up to which points agree.

    Returns:
        The similarity, and bool [N], which points agree with it; none where none was found.
    """
    options = pycolmap.RANSACOptions({"max_error": max_error, "random_seed": seed, "min_inlier_ratio": 0.1})
    found: Any = pycolmap.estimate_sim3d_robust(source, target, options)
    if found is None:
        return Sim3(1.0, np.eye(3), np.zeros(3)), np.zeros(len(source), bool)
    agree = np.asarray(found["inlier_mask"])
    return Sim3.fit(source[agree], target[agree]), agree

"""Matching accuracy on image pairs whose homography is known (the HPatches protocol)."""

from __future__ import annotations

import cv2
import numpy as np


def warp_points(points: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Map points [N, 2] by a homography [3, 3]."""
    mapped = np.c_[points, np.ones(len(points))] @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def matching_accuracy(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Share of matches within each threshold of the truth.

    Args:
        points0, points1: [M, 2] matched points, pixels.
        homography: [3, 3] from the first image to the second.
        thresholds: [T] pixels.

    Returns:
        [T] in [0, 1]; 0 where there is no match. Source: Mikolajczyk and Schmid, 2005; D2-Net's protocol.
    """
    if not len(points0):
        return np.zeros(len(thresholds))
    error = np.linalg.norm(warp_points(points0, homography) - points1, axis=1)
    return (error[:, None] <= np.asarray(thresholds)).mean(0)


def corner_error(
    points0: np.ndarray, points1: np.ndarray, homography: np.ndarray, size: tuple[int, int], threshold: float = 3.0
) -> float:
    """Mean error of the first image's four corners under the homography that MAGSAC++ estimates from matches.

    Args:
        points0, points1: [M, 2] matched points, pixels.
        homography: the true one, [3, 3].
        size: (width, height) of the first image.
        threshold: of the estimator, pixels.

    Returns:
        Pixels; inf where no homography is found. Source: SuperPoint, CVPR 2018.
    """
    if len(points0) < 4:
        return float("inf")
    found, _ = cv2.findHomography(points0, points1, cv2.USAC_MAGSAC, threshold, maxIters=10000, confidence=0.9999)
    if found is None:
        return float("inf")
    width, height = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    return float(np.linalg.norm(warp_points(corners, homography) - warp_points(corners, found), axis=1).mean())

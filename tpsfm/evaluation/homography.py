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


def repeatability(
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    homography: np.ndarray,
    size0: tuple[int, int],
    size1: tuple[int, int],
    threshold: float = 3.0,
) -> tuple[float, float]:
    """Repeatability of keypoints between two images, and their localisation error.

    Only keypoints that fall inside the other image count. Each is taken to the other image, and its distance to the
    nearest keypoint there is measured there; both directions count alike.

    Args:
        keypoints0, keypoints1: [N, 2], [M, 2] pixels.
        homography: [3, 3] from the first image to the second.
        size0, size1: (width, height) of the images.
        threshold: pixels within which a keypoint is found again.

    Returns:
        The share found again, in [0, 1], 0 where nothing is shared; and the localisation error, the mean distance
        of those found again in pixels, nan where there are none. Source: SuperPoint, CVPR 2018 (appendix).
    """
    distances = np.concatenate(
        [
            _to_nearest(keypoints0, keypoints1, homography, size1),
            _to_nearest(keypoints1, keypoints0, np.linalg.inv(homography), size0),
        ]
    )
    again = distances <= threshold
    return float(again.sum() / max(len(again), 1)), float(distances[again].mean() if again.any() else np.nan)


def _to_nearest(keypoints: np.ndarray, others: np.ndarray, homography: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Distance [K] to the nearest of `others` of each keypoint that falls inside the other image; inf without any."""
    mapped = warp_points(keypoints, homography)
    inside = ((mapped >= 0) & (mapped <= np.array(size) - 1)).all(1)
    if not inside.any() or not len(others):
        return np.full(inside.sum(), np.inf)
    matches = cv2.BFMatcher(cv2.NORM_L2).match(mapped[inside].astype(np.float32), others.astype(np.float32))
    return np.array([match.distance for match in matches])


def estimate_homography(
    points0: np.ndarray, points1: np.ndarray, threshold: float = 3.0, polish: bool = False
) -> np.ndarray | None:
    """The homography [3, 3] of matches by MAGSAC++ (Barath et al., CVPR 2020), None where none is found.

    Args:
        points0, points1: [M, 2] matched points, pixels.
        threshold: of the estimator, pixels.
        polish: fit it once more, by least squares to the matches within the threshold.
    """
    if len(points0) < 4:
        return None
    found, _ = cv2.findHomography(points0, points1, cv2.USAC_MAGSAC, threshold, maxIters=10000, confidence=0.9999)
    if found is None or not polish:
        return found
    near = np.linalg.norm(warp_points(points0, found) - points1, axis=1) < threshold
    polished = cv2.findHomography(points0[near], points1[near], 0)[0] if near.sum() >= 4 else None
    return found if polished is None else polished


def corner_error(
    points0: np.ndarray,
    points1: np.ndarray,
    homography: np.ndarray,
    size: tuple[int, int],
    threshold: float = 3.0,
    polish: bool = False,
) -> float:
    """Mean error of the first image's four corners under the homography that is estimated from matches.

    Args:
        points0, points1: [M, 2] matched points, pixels.
        homography: the true one, [3, 3].
        size: (width, height) of the first image.
        threshold, polish: as in `estimate_homography`.

    Returns:
        Pixels; inf where no homography is found. Source: SuperPoint, CVPR 2018.
    """
    found = estimate_homography(points0, points1, threshold, polish)
    if found is None:
        return float("inf")
    width, height = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    return float(np.linalg.norm(warp_points(corners, homography) - warp_points(corners, found), axis=1).mean())

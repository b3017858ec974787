"""Screening of image pairs: whether more of their matches agree on an epipolar geometry than by chance."""

from __future__ import annotations

from bisect import bisect_left

import cv2
import numpy as np
from scipy.special import bdtrc

from tpsfm.features.base import Features
from tpsfm.matching import Matcher

SURE = 1e-9  # a chance too small for any of the thousands of geometries that a RANSAC tries
UNLIKELY = 1e-5  # a chance that a thousand trials hardly meet: the pair is worth a closer look
POSSIBLE = 0.1  # a chance that is good enough for a few matches
MIN_INLIERS = 15  # of a sure pair, as COLMAP's
MAX_ERROR = 4.0  # pixels, as COLMAP's
_TRIALS = 1000
_CROWDED = 1.5  # times as many lie near an epipolar line as if keypoints were spread evenly
_SAMPLE = 7  # matches that a fundamental matrix is made of


def match_screened(matcher: Matcher, first: Features, second: Features, strongest: int) -> np.ndarray:
    """Matches of two images; those of the strongest keypoints alone where these don't agree on a geometry.

    The two steps are taken where the first costs a quarter of the whole at most.

    Args:
        matcher: any.
        first, second: as its `prepare` gives them, the strongest keypoints first.
        strongest: how many of each are matched first; 0 matches all at once.

    Returns:
        uint32 [K, 2], indices of keypoints.
    """
    if strongest and len(first) * len(second) >= 4 * strongest**2:
        few0, few1 = (features.select(slice(0, strongest)) for features in (first, second))
        matches = matcher.match(few0, few1)[0]
        sizes = first.image_size, second.image_size
        if not may_agree(few0.keypoints, few1.keypoints, matches, sizes, POSSIBLE, _SAMPLE + 2):
            return matches
    return matcher.match(first, second)[0]


def may_agree(
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    matches: np.ndarray,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    chance: float = UNLIKELY,
    least: int = MIN_INLIERS * 3 // 4,
    seed: int = 0,
) -> bool:
    """Whether at least as many matches as `least_inliers` says agree on a fundamental matrix.

    A quick look by MAGSAC++ (Barath et al., CVPR 2020), which finds some fewer than COLMAP does; it spends milliseconds
    on a pair with nothing in common.

    Args:
        keypoints0, keypoints1: float [N, 2] and [M, 2], pixels.
        matches: integers [K, 2], indices of both.
        sizes: (width, height) of both images.
        chance, least: as for `least_inliers`.
        seed: of RANSAC.
    """
    least = least_inliers(len(matches), sizes, chance, least)
    if len(matches) < least:
        return False
    parameters = cv2.UsacParams()
    parameters.randomGeneratorState = seed
    parameters.confidence, parameters.maxIterations, parameters.threshold = 0.999, _TRIALS, MAX_ERROR
    parameters.score = cv2.SCORE_METHOD_MAGSAC
    parameters.loMethod, parameters.final_polisher = cv2.LOCAL_OPTIM_NULL, cv2.NONE_POLISHER
    points = (np.asarray(keypoints0[matches[:, 0]], float), np.asarray(keypoints1[matches[:, 1]], float))
    try:
        _, inliers = cv2.findFundamentalMat(*points, parameters)
    except cv2.error:  # OpenCV 5 asserts that a sample of seven gives a matrix, which few points on a plane may not
        return True
    return inliers is not None and int(np.count_nonzero(inliers)) >= least


def least_inliers(
    count: int, sizes: tuple[tuple[int, int], tuple[int, int]], chance: float = SURE, least: int = MIN_INLIERS
) -> int:
    """How many of `count` matches must agree with a two-view geometry to be more than chance makes agree.

    A random match agrees where it lies within `MAX_ERROR` of an epipolar line; that many times as many matches, so many
    more agree by chance, beside the sample that the geometry was made of.

    Args:
        count: of the matches.
        sizes: (width, height) of both images, pixels.
        chance: that as many random matches agree with a geometry.
        least: how many must agree at any rate.

    Source: the argument of Moisan and Stival, IJCV 2004, with a fixed error.
    """
    share = max(2 * MAX_ERROR * float(np.hypot(*size)) / (size[0] * size[1]) for size in sizes) * _CROWDED
    others = max(count - _SAMPLE, 0)
    by_chance = bisect_left(range(others), True, key=lambda k: bdtrc(k, others, min(share, 1.0)) <= chance)
    return max(least, _SAMPLE + 1 + by_chance)

"""Homography metrics on cases worked out by hand, and against OpenCV and kornia."""

import cv2
import numpy as np
import pytest
import torch
from kornia.geometry import oneway_transfer_error

from tpsfm.evaluation.homography import corner_error, matching_accuracy, repeatability, warp_points

SHIFT = np.array([[1, 0, 10], [0, 1, 0], [0, 0, 1.0]])  # 10 px to the right
PERSPECTIVE = np.array([[1.1, 0.05, -8], [-0.02, 0.95, 12], [1e-4, -2e-4, 1]])


def test_warped_points_agree_with_opencv():
    points = np.random.default_rng(0).uniform(0, 400, (50, 2))
    expected = cv2.perspectiveTransform(points[None], PERSPECTIVE)[0]
    np.testing.assert_allclose(warp_points(points, PERSPECTIVE), expected, rtol=1e-9)


def test_matching_accuracy_by_hand():
    points = np.array([[0, 0], [5, 5], [20, 7], [30, 1.0]])
    errors = np.array([[0, 0], [3, 4], [0, 1], [0, -12.0]])  # 0, 5, 1 and 12 px
    accuracy = matching_accuracy(points, warp_points(points, SHIFT) + errors, SHIFT, np.array([0.5, 1, 4.9, 5, 12]))
    np.testing.assert_allclose(accuracy, [0.25, 0.5, 0.5, 0.75, 1])
    assert not matching_accuracy(points[:0], points[:0], SHIFT, np.arange(1, 11)).any()


def test_matching_accuracy_agrees_with_kornia():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 400, (200, 2))
    others = warp_points(points, PERSPECTIVE) + rng.normal(0, 3, points.shape)
    squared = oneway_transfer_error(*(torch.from_numpy(x[None]) for x in (points, others, PERSPECTIVE)))
    thresholds = np.arange(1, 11)
    expected = (squared[0].sqrt().numpy()[:, None] <= thresholds).mean(0)
    np.testing.assert_allclose(matching_accuracy(points, others, PERSPECTIVE, thresholds), expected)


def test_repeatability_by_hand():
    # The second image starts 10 px to the left of the first: of 100 columns 90 are shared.
    first = np.array([[20, 20], [40, 40], [60, 60], [95, 50.0]])  # the last one falls outside the second image
    second = np.array([[30, 21], [52, 40], [70, 64], [5, 5], [80, 80.0]])  # (5, 5) falls outside the first
    # First to second: 1, 2 and 4 px; back the same; (80, 80) is (70, 80) in the first, far from all.
    share, error = repeatability(first, second, SHIFT, (100, 100), (100, 100))
    assert share == pytest.approx(4 / 7)
    assert error == pytest.approx((1 + 2 + 1 + 2) / 4)
    share, error = repeatability(first, second, SHIFT, (100, 100), (100, 100), threshold=4)
    assert (share, error) == (pytest.approx(6 / 7), pytest.approx(14 / 6))
    turned = repeatability(second, first, np.linalg.inv(SHIFT), (100, 100), (100, 100), threshold=4)
    assert turned == pytest.approx((share, error))


def test_repeatability_measures_in_the_other_image():
    double = np.diag([2, 2, 1.0])
    share, error = repeatability(np.array([[10, 10.0]]), np.array([[22, 20.0]]), double, (50, 50), (100, 100))
    assert (share, error) == (1, pytest.approx((2 + 1) / 2))


def test_repeatability_of_nothing():
    points, none = np.array([[20, 20.0]]), np.zeros((0, 2))
    for first, second in ((points, none), (none, points), (none, none)):
        share, error = repeatability(first, second, SHIFT, (100, 100), (100, 100))
        assert share == 0 and np.isnan(error)


def test_corner_error_of_a_known_shift():
    points = np.random.default_rng(2).uniform(0, 400, (100, 2))
    moved = warp_points(points, SHIFT)
    assert corner_error(points, moved, SHIFT, (400, 300)) < 1e-3
    assert corner_error(points, moved + np.array([3, 4]), SHIFT, (400, 300)) == pytest.approx(5, abs=1e-3)
    assert corner_error(points[:3], moved[:3], SHIFT, (400, 300)) == np.inf

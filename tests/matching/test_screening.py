"""Pairs of images that show nothing in common are told by a few of their matches, and nothing else is lost."""

import numpy as np
import pytest

from tpsfm.features.base import Features
from tpsfm.matching.nearest import MutualNearest
from tpsfm.matching.screening import SURE, least_inliers, match_screened, may_agree

SIZES = ((1600, 1200), (1600, 1200))

TURNED = (  # x, y of matches of two views from one point, two of them twice: samples of seven that give no matrix
    *((170.56, 122.91, 23.31, 122.99), (173.49, 170.12, 26.22, 169.05), (173.49, 170.12, 26.22, 169.05)),
    *((180.28, 143.28, 32.74, 140.62), (162.22, 142.89, 14.48, 145.96), (162.22, 142.89, 109.5, 182.35)),
    *((175.8, 142.77, 28.62, 141.38), (173.32, 158.26, 26.35, 157.19), (173.97, 175.14, 26.92, 173.79)),
    *((160.46, 180.04, 12.83, 186.23), (169.68, 161.36, 22.53, 161.99), (132.93, 177.98, 83.22, 184.8)),
    *((166.22, 163.22, 18.99, 165.23), (164.1, 150.86, 16.84, 153.51), (164.1, 150.86, 16.84, 153.51)),
)


def views(count: int, outliers: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [count, 2] of two photos of the same points, a share of them mismatched."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((-4, -3, 4), (4, 3, 12), (count, 3))
    moved = points + np.array([1.0, 0.2, 0.3])
    first, second = (1200 * x[:, :2] / x[:, 2:] + (800, 600) for x in (points, moved))
    wrong = rng.random(count) < outliers
    second[wrong] = rng.uniform((0, 0), SIZES[1], (wrong.sum(), 2))
    return first, second + rng.normal(0, 0.5, second.shape)


@pytest.mark.parametrize("count", [30, 100, 300, 1000, 3000])
def test_random_matches_are_not_enough_however_many(count):
    matches = np.stack([np.arange(count)] * 2, 1)
    passed = [may_agree(*views(count, 1.0, seed), matches, SIZES) for seed in range(12)]
    assert sum(passed) <= 2


@pytest.mark.parametrize(("count", "outliers"), [(30, 0.2), (100, 0.5), (1000, 0.6), (3000, 0.6)])
def test_matches_of_two_views_are(count, outliers):
    matches = np.stack([np.arange(count)] * 2, 1)
    assert all(may_agree(*views(count, outliers, seed), matches, SIZES) for seed in range(6))


def test_the_more_matches_the_more_must_agree():
    counts = [least_inliers(count, SIZES) for count in (15, 100, 1000, 8000)]
    assert counts == sorted(counts) and counts[0] == 15 and 33 < counts[2] < 70  # 33 of 1,000 random ones by COLMAP
    assert least_inliers(1000, ((640, 480),) * 2) > counts[2]  # small images: an epipolar line's surroundings are more
    assert least_inliers(1000, SIZES, 0.1) < least_inliers(1000, SIZES, SURE)


class Counting(MutualNearest):
    """Notes how many keypoints it was asked to match."""

    asked: list[int]

    def match(self, first, second):
        self.asked.append(len(first))
        return super().match(first, second)


def features(keypoints: np.ndarray, descriptors: np.ndarray) -> Features:
    scores = np.linspace(1, 0, len(keypoints), dtype=np.float32)
    return Features(keypoints.astype(np.float32), scores, descriptors.astype(np.float32), SIZES[0])


def test_the_other_keypoints_are_matched_only_where_the_strongest_agree():
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(400, 32))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    first, second = views(400, 0.3)
    matcher = Counting("cpu")
    pair = [matcher.prepare(features(keypoints, descriptors)) for keypoints in (first, second)]
    matcher.asked = []
    np.testing.assert_array_equal(match_screened(matcher, *pair, strongest=100), matcher.match(*pair)[0])
    assert matcher.asked == [100, 400, 400]

    foreign = matcher.prepare(features(rng.uniform((0, 0), SIZES[0], (400, 2)), descriptors[rng.permutation(400)]))
    matcher.asked = []
    assert len(match_screened(matcher, pair[0], foreign, strongest=100)) < 100 and matcher.asked == [100]

    for all_at_once in (0, 300):  # as asked, and as two steps would save nothing
        matcher.asked = []
        match_screened(matcher, pair[0], foreign, strongest=all_at_once)
        assert matcher.asked == [400]


def test_matches_of_which_no_sample_gives_a_matrix_end_no_run():
    first, second = np.split(np.array(TURNED), 2, axis=1)
    matches = np.stack([np.arange(len(first))] * 2, 1)
    assert all(may_agree(first, second, matches, ((195, 195),) * 2, least=8, seed=seed) for seed in range(12))

"""Matches of two images, aligned with the help of their geometry."""

import numpy as np
import pytest

from tests.alignment.test_patches import places, texture, warped
from tpsfm.alignment.matches import align_matches, homography_warps, is_homography, neighbour_warps
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.homography import warp_points

HOMOGRAPHY = np.array([[0.95, 0.1, 5.0], [-0.08, 0.9, 14.0], [1e-4, 2e-4, 1.0]])
CAMERA = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])


def fundamental_of(homography: np.ndarray) -> np.ndarray:
    """A fundamental matrix of two views of a plane that the homography takes to each other: [e']_x H."""
    epipole = np.array([900.0, 80.0, 1.0])
    cross = np.array([[0, -1, epipole[1]], [1, 0, -epipole[0]], [-epipole[1], epipole[0], 0]])
    return cross @ homography


@pytest.fixture(scope="module")
def pair():
    """Two images of a plane, keypoints of both, displaced by noise, and their matches: the second list is shuffled."""
    rng = np.random.default_rng(0)
    first = texture()
    points = places(200)
    order = rng.permutation(len(points))
    second = (warp_points(points, HOMOGRAPHY) + rng.normal(0, 0.6, points.shape).clip(-1.5, 1.5))[order]
    return first, warped(first, HOMOGRAPHY), points, second, np.column_stack([np.arange(200), np.argsort(order)])


def error(aligned, homography=HOMOGRAPHY) -> np.ndarray:
    return np.linalg.norm(warp_points(aligned.keypoints0, homography) - aligned.keypoints1, axis=1)[aligned.found]


@pytest.mark.parametrize("model", [HOMOGRAPHY, fundamental_of(HOMOGRAPHY)], ids=["homography", "fundamental"])
def test_the_second_keypoints_move_to_where_the_first_are(pair, model):
    aligned = align_matches(*pair, model)
    assert aligned.found.mean() > 0.9
    assert np.median(error(aligned)) < 0.05 and np.quantile(error(aligned), 0.9) < 0.12


def test_the_coarser_image_is_the_one_that_is_moved_in(pair):
    first, second, points, others, matches = pair
    inverse = np.linalg.inv(HOMOGRAPHY)
    forth = align_matches(first, second, points, others, matches, HOMOGRAPHY)
    back = align_matches(second, first, others, points, matches[:, ::-1], inverse)
    shrinks = np.linalg.det(homography_warps(HOMOGRAPHY, points.astype(float))) < 0.97
    assert shrinks.any() and (forth.keypoints0[shrinks] == points[shrinks]).all()
    assert (back.keypoints1[shrinks] == points[shrinks]).all()
    assert np.median(error(back, inverse)) < 0.03


def test_wrong_matches_stay_as_they_are_and_are_not_found(pair):
    first, second, points, others, matches = pair
    wrong = np.column_stack([matches[:, 0], np.roll(matches[:, 1], 7)])
    aligned = align_matches(first, second, points, others, wrong, HOMOGRAPHY)
    assert aligned.found.mean() < 0.05
    assert (aligned.keypoints1[~aligned.found] == others[wrong[:, 1]][~aligned.found]).all()


def test_the_warps_of_a_homography_are_its_derivatives():
    points = places(20).astype(float)
    steps = [warp_points(points + d, HOMOGRAPHY) - warp_points(points - d, HOMOGRAPHY) for d in np.eye(2) * 1e-3]
    assert np.allclose(homography_warps(HOMOGRAPHY, points), np.stack(steps, -1) / 2e-3, atol=1e-6)


def test_warps_of_neighbours_survive_wrong_matches():
    points = places(300).astype(float)
    second = warp_points(points, HOMOGRAPHY)
    wrong = np.arange(0, 300, 6)
    second[wrong] += np.random.default_rng(0).normal(0, 40, (50, 2))
    warps = neighbour_warps(fundamental_of(HOMOGRAPHY), points, second)
    off = np.abs(warps - homography_warps(HOMOGRAPHY, points)).max((1, 2))
    assert np.median(off) < 0.03 and np.quantile(off, 0.9) < 0.15
    few = neighbour_warps(fundamental_of(HOMOGRAPHY), points[:5], second[:5])
    assert np.isnan(few).all()


def test_no_matches(pair):
    aligned = align_matches(*pair[:4], np.empty((0, 2), np.uint32), HOMOGRAPHY)
    assert aligned.keypoints0.shape == aligned.keypoints1.shape == (0, 2) and not len(aligned.found)


@pytest.mark.parametrize("scale", [1.0, 1e-3, -50.0])
def test_what_kind_of_geometry_a_matrix_is(scale):
    large = (3000, 4000)
    shift = np.array([[1.0, 0, 3500], [0, 1, -2000], [0, 0, 1]])
    assert is_homography(scale * HOMOGRAPHY, large, large) and is_homography(scale * shift, large, large)
    assert not is_homography(scale * fundamental_of(HOMOGRAPHY), large, large)
    for bad in (np.ones((3, 3)), np.zeros((3, 3)), np.full((3, 3), np.nan), np.eye(2)):
        with pytest.raises(TpsfmError, match="homography"):
            is_homography(scale * bad, large, large)

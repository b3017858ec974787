import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.evaluation.localization import accuracy, align_map, extent, localization_errors
from tpsfm.geometry import Pose


def turned(axis, degrees):
    """Rotation about a coordinate axis."""
    angle = np.radians(degrees)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    rotation = np.eye(3)
    rotation[[i, j], [i, j]] = np.cos(angle)
    rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
    return rotation


def pose(rotation, center):
    return Pose(0, rotation, -rotation @ np.asarray(center, float))


SCALE, TURN, SHIFT = 2.0, turned(2, 90), np.array([10.0, 0.0, -1.0])  # from the map to the truth


def in_map(rotation, center):
    """The pose in the map's frame of a camera whose true one is given."""
    return pose(rotation @ TURN, TURN.T @ (np.asarray(center, float) - SHIFT) / SCALE)


CENTERS = {"a": (0, 0, 0), "b": (3, 0, 0), "c": (3, 4, 0), "d": (0, 4, 1), "e": (1, 1, 5)}
TRUTH = {name: pose(turned(i % 3, 20 * i), center) for i, (name, center) in enumerate(CENTERS.items())}
MAPPED = {name: in_map(TRUTH[name].rotation, CENTERS[name]) for name in CENTERS}


def test_errors_are_those_put_in():
    """A query 0.3 to the side and turned by 2 degrees, in a map of another frame and scale."""
    truth = TRUTH | {"q": pose(turned(0, 30), (1, 2, 3)), "lost": TRUTH["a"]}
    localized = {"q": in_map(turned(1, 2) @ turned(0, 30), (1.3, 2, 3)), "lost": None}
    position, rotation = localization_errors(truth, MAPPED, localized)
    np.testing.assert_allclose(position, [0.3, np.inf])
    np.testing.assert_allclose(rotation, [2, np.inf])


def test_one_wrong_camera_of_the_map_is_no_matter():
    mapped = MAPPED | {"e": in_map(TRUTH["e"].rotation, (40, -7, 5))}
    truth = TRUTH | {"q": TRUTH["b"]}
    position, rotation = localization_errors(truth, mapped, {"q": MAPPED["b"]})
    np.testing.assert_allclose([*position, *rotation], 0, atol=1e-6)


def test_queries_do_not_bend_the_alignment():
    """All queries are off by the same way: an alignment that used them would hide it."""
    names = [f"q{i}" for i in range(20)]
    truth = TRUTH | {name: TRUTH["c"] for name in names}
    off = in_map(TRUTH["c"].rotation, (3, 4, 1))
    position, _ = localization_errors(truth, MAPPED, dict.fromkeys(names, off))
    np.testing.assert_allclose(position, 1)


def many(count, rng):
    centers = rng.standard_normal((count, 3))
    truth = {f"{i:02d}": pose(turned(i % 3, 10 * i), center) for i, center in enumerate(centers)}
    return truth, {name: in_map(known.rotation, known.center) for name, known in truth.items()}


def test_a_third_of_many_cameras_wrong():
    """Ten elsewhere, ten turned; the rest gives the similarity exactly."""
    rng = np.random.default_rng(0)
    truth, mapped = many(60, rng)
    for i, name in enumerate(truth):
        if i < 10:
            mapped[name] = in_map(truth[name].rotation, truth[name].center + rng.uniform(1, 5, 3))
        elif i < 20:
            mapped[name] = in_map(turned(i % 3, 30) @ truth[name].rotation, truth[name].center)
    onto = align_map(truth, mapped)
    assert onto.scale == pytest.approx(SCALE)
    np.testing.assert_allclose(onto.rotation, TURN, atol=1e-9)
    np.testing.assert_allclose(onto.translation, SHIFT, atol=1e-9)


def test_small_noise_is_averaged():
    """Least squares over all good cameras, not over a pair alone."""
    rng = np.random.default_rng(0)
    truth, _ = many(40, rng)
    off = 0.01 * rng.standard_normal((40, 3))
    noisy = {n: in_map(truth[n].rotation, truth[n].center + shift) for n, shift in zip(truth, off, strict=True)}
    onto = align_map(truth, noisy)
    assert abs(onto.scale / SCALE - 1) < 0.002 and np.abs(onto.translation - SHIFT).max() < 0.015


def test_cameras_on_a_line_still_tell_the_turn_about_it():
    truth = {f"{i}": pose(turned(i % 3, 15 * i), (i, 0, 0)) for i in range(4)}
    mapped = {name: in_map(known.rotation, known.center) for name, known in truth.items()}
    onto = align_map(truth, mapped)
    assert onto.scale == pytest.approx(SCALE)
    np.testing.assert_allclose(onto.rotation, TURN, atol=1e-9)


def test_two_cameras_are_too_few():
    with pytest.raises(TpsfmError, match="at least 3 photos with both, there are 2"):
        localization_errors(TRUTH, {name: MAPPED[name] for name in "ab"}, {"c": MAPPED["c"]})


def test_extent_is_the_longest_distance():
    assert extent({name: TRUTH[name] for name in "abc"}) == pytest.approx(5)


def test_accuracy_needs_both_within():
    position = np.array([0.1, 0.1, 0.3, np.inf])
    rotation = np.array([0.1, 5.0, 0.1, np.inf])
    assert accuracy(position, rotation, [(0.1, 0.1), (0.3, 1), (9, 9)]) == [0.25, 0.5, 0.75]
    assert accuracy(np.zeros(0), np.zeros(0), [(1, 1)]) == [0.0]

"""Maps whose positions lie on a line stand upright by their photos, as far as these tell it."""

import numpy as np
import pytest

from tests.reconstruction.test_georeference import LUND, places
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Sim3, rotation_about, rotation_angle
from tpsfm.photos import Photo
from tpsfm.reconstruction.placement import place, stand_upright
from tpsfm.reconstruction.upright import GIMBAL, LEVEL, turn_upright

AHEAD, NADIR = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])
MOVED = Sim3(0.2, rotation_about(np.array([0.6, 0.0, 0.8]), 1.2), np.array([3.0, 1.0, -2.0]))
ON_ITS_SIDE = rotation_about(np.array([0.0, 0, 1]), -np.pi / 2)  # the frame of a photo of EXIF orientation 6


def stood(looks, photos, line=(1.0, 0.3, 0.0), turns=None, noise=1.5, frame=None):
    """A map of 30 photos on a line, moved out of metres, placed by positions of 2 m: the placement, its true error."""
    rng = np.random.default_rng(0)
    centers = np.outer(np.linspace(-40, 40, 30), line) + rng.normal(0, 0.2, (30, 3))
    rotations = {
        f"{i}.jpg": (np.eye(3) if frame is None else frame)
        @ rotation_about(axis / np.linalg.norm(axis), np.radians(rng.normal(0, noise)))
        @ looks(i)
        for i, axis in enumerate(rng.normal(size=(30, 3)))
    }
    own = {name: R @ MOVED.rotation.T for name, R in rotations.items()}
    source = dict(zip(rotations, MOVED(centers), strict=True))
    known = dict(zip(rotations, map(tuple, places(centers + rng.normal(0, 2, centers.shape))), strict=True))
    found = place(source, known, (10.0, 10.0, 20.0), 0)
    assert found.fit.tilt > np.radians(10)
    records = {name: photos(i, rotations[name]) for i, name in enumerate(rotations)}
    stands = stand_upright(
        found, own, lambda axis, turned: turn_upright(axis, turned, records, dict.fromkeys(rotations, turns or 0))
    )
    error = stands.fit.transform.rotation @ MOVED.rotation
    return stands, np.degrees(np.arccos(error[2, 2]))


def plain(number, rotation):
    return Photo(640, 480)


@pytest.mark.parametrize("orientation, turns", [(1, 0), (6, 0), (1, 90)])
def test_photos_that_are_held_level(orientation, turns):
    frame = None if (orientation, turns) == (1, 0) else ON_ITS_SIDE
    sideways = [rotation_about(np.array([0.0, 0, 1]), 0.8 * (-1) ** i) for i in range(30)]  # each looks aside a little

    def looks(i):  # every fifth is held in another way
        other = rotation_about(np.array([0.0, 0, 1]), 1.0) if i % 5 == 0 else np.eye(3)
        return other @ AHEAD @ sideways[i]

    found, degrees = stood(looks, lambda *_: Photo(640, 480, orientation=orientation), turns=turns, frame=frame)
    assert found.upright == LEVEL and degrees < 3 and np.radians(1) < found.tilt < np.radians(4)
    assert np.linalg.norm(found.fit.residuals, axis=1).max() < 8


def test_a_strip_with_the_top_of_the_photos_ahead():
    heading = rotation_about(np.array([0.0, 0, 1]), -np.arctan(0.3))
    found, degrees = stood(lambda i: NADIR @ heading, plain, noise=2)
    assert found.upright == LEVEL and degrees < 3


def test_the_gimbal_tells_it_where_the_rows_lie_along_the_line():
    heading = rotation_about(np.array([0.0, 0, 1]), -np.arctan(0.3))
    along = rotation_about(np.array([0.0, 0, 1]), np.pi / 2) @ NADIR @ heading
    found, degrees = stood(lambda i: along, lambda i, R: Photo(640, 480, up=tuple(R[:, 2])))
    assert found.upright == GIMBAL and degrees < 3 and found.tilt < np.radians(1)
    with pytest.raises(TpsfmError, match=r"lie on a line, .* aren't held so that they tell which way is up"):
        stood(lambda i: along, plain)


def test_photos_held_in_all_ways_tell_nothing():
    rng = np.random.default_rng(3)
    with pytest.raises(TpsfmError, match="aren't held so"):
        stood(lambda i: rotation_about(np.array([0.0, 0, 1]), rng.uniform(-3, 3)) @ AHEAD, plain)


def test_a_line_straight_up_tells_no_heading():
    with pytest.raises(TpsfmError, match="aren't held so"):
        stood(lambda i: AHEAD, plain, line=(0.0, 0.0, 1.0))


def test_wide_positions_are_not_turned():
    rng = np.random.default_rng(0)
    centers = rng.uniform(-40, 40, (30, 3)) * (1, 1, 0.05)
    names = [f"{i}.jpg" for i in range(30)]
    found = place(
        dict(zip(names, centers, strict=True)),
        dict(zip(names, map(tuple, places(centers + rng.normal(0, 0.3, centers.shape))), strict=True)),
        (10.0, 10.0, 20.0),
        0,
    )
    tilted = dict.fromkeys(names, AHEAD @ rotation_about(np.array([0.0, 1, 0]), 0.2))
    photos = {name: Photo(640, 480) for name in names}
    stands = stand_upright(found, tilted, lambda line, turned: turn_upright(line, turned, photos, {}))
    assert stands is found and rotation_angle(found.fit.transform.rotation) < 0.02
    assert found.origin == pytest.approx(LUND, abs=1)


def test_a_drifting_gps_does_not_turn_a_street_on_its_side():
    """Its errors are alike from photo to photo, so that they look like a certain turn, which the photos contradict."""
    rng = np.random.default_rng(1)
    centers = np.outer(np.linspace(-60, 60, 30), (1.0, 0, 0)) + rng.normal(0, 0.5, (30, 3)) * (1, 1, 0.1)
    centers[:, 1] += 4 * np.sin(np.linspace(0, 3, 30))  # the street bends
    drift = np.column_stack([np.zeros(30), 0.2 * centers[:, 1], 0.9 * (centers[:, 1] - centers[:, 1].mean())])
    names = [f"{i}.jpg" for i in range(30)]
    known = dict(zip(names, map(tuple, places(centers + drift + rng.normal(0, 1, (30, 3)))), strict=True))
    found = place(dict(zip(names, centers, strict=True)), known, (10.0, 10.0, 20.0), 0)
    assert found.fit.tilt < np.radians(10) and found.fit.inliers.all()  # certain, it seems
    wrong = rotation_angle(found.fit.transform.rotation)
    assert wrong > 4 * found.fit.tilt
    photos = {name: Photo(640, 480) for name in names}
    rotations = {
        name: rotation_about(np.array([0.0, 0, 1]), yaw)
        for name, yaw in zip(names, rng.normal(0, 0.3, 30), strict=True)
    }
    own = {name: AHEAD @ turn for name, turn in rotations.items()}
    stands = stand_upright(found, own, lambda line, turned: turn_upright(line, turned, photos, {}))
    up = stands.fit.transform.rotation[2, 2]
    assert stands.upright == LEVEL and np.degrees(np.arccos(up)) < 3

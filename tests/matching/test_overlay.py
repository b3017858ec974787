"""What lies over all photos is found, and nothing where the scene itself stands still."""

import numpy as np
import pytest

from tpsfm.demo.rendering import look_at
from tpsfm.matching.overlay import MatchedPair, Overlay, find_overlay, is_still

SIZE, FOCAL = (640, 480), 600.0


def views(count: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cameras (R, C) on an arc."""
    centres = [np.array([4 * np.sin(a), -4 * np.cos(a), 0.1 * i]) for i, a in enumerate(np.linspace(-0.5, 0.5, count))]
    return [(look_at(centre, np.zeros(3)), centre) for centre in centres]


def project(points: np.ndarray, camera: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    x = (points - camera[1]) @ camera[0].T
    return FOCAL * x[:, :2] / x[:, 2:] + np.array(SIZE) / 2 + rng.normal(0, 0.4, (len(points), 2))


def pairs(cameras, points: np.ndarray, banner: np.ndarray, wrong: int = 20) -> list[MatchedPair]:
    """The matches of all pairs: of points of the scene, of a banner (pixels), and wrong ones."""
    rng = np.random.default_rng(0)
    found = []
    for i, one in enumerate(cameras):
        for other in cameras[i + 1 :]:
            ends = [
                np.concatenate([
                    project(points, camera, rng),
                    banner + rng.normal(0, 0.3, banner.shape),
                    rng.uniform(0, SIZE, (wrong, 2)),
                ])
                for camera in (one, other)
            ]  # fmt: skip
            found.append(MatchedPair(SIZE, *ends))
    return found


def cloud(count: int = 150) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, 3))


BANNER = np.random.default_rng(2).uniform((50, 400), (600, 470), (60, 2))
NO_BANNER = np.empty((0, 2))


def test_a_banner_is_found_and_the_scene_is_left():
    matched = pairs(views(), cloud(), BANNER)
    overlay = find_overlay(matched)
    assert overlay.covers(SIZE, BANNER).mean() > 0.95
    for pair in matched:
        kept = overlay.without(pair, SIZE)
        assert kept[:150].mean() > 0.95 and kept[150:210].mean() < 0.05
    assert not overlay.covers((480, 640), BANNER).any()  # of another size
    assert find_overlay(matched).digest == overlay.digest != Overlay().digest


def test_wrong_matches_of_a_banner_with_itself_go_too():
    overlay = find_overlay(pairs(views(), cloud(), BANNER))
    swapped = MatchedPair(SIZE, BANNER, BANNER[::-1].copy())
    assert overlay.without(swapped, SIZE).mean() < 0.05


FAR = 1e4 * cloud() + [0, 0, 5e4]
SIDEWAYS = [(np.eye(3), np.array([0.2 * i, 0, -4.0])) for i in range(5)]


@pytest.mark.parametrize(
    ("cameras", "points"),
    [
        (views(), cloud()),
        ([views()[2]] * 5, cloud()),  # a tripod
        (SIDEWAYS, np.concatenate([cloud(), FAR])),
        (SIDEWAYS, np.concatenate([cloud() * [1, 1, 0], FAR])),  # a wall before mountains
        (views(), np.empty((0, 3))),  # wrong matches alone
    ],
    ids=["a walk", "a tripod", "far away", "a wall and far away", "nothing"],
)
def test_nothing_is_found_where_nothing_lies_over_the_photos(cameras, points):
    assert not find_overlay(pairs(cameras, points, NO_BANNER))


def test_what_is_far_away_does_stand_still():
    assert is_still(pairs(SIDEWAYS, FAR, NO_BANNER, wrong=0)[0]).mean() > 0.5


def test_a_banner_over_photos_that_show_nothing_else_in_common_is_not_judged():
    assert not find_overlay(pairs(views(), np.empty((0, 3)), BANNER))

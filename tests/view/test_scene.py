"""What is drawn of a map, where and in which colours; our own renderer beside Open3D's."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.viewed import GREEN, empty_model, make_model, near
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model, Pose
from tpsfm.view import window
from tpsfm.view.scene import BACKGROUND, PHOTO_COLOR, QUERY_COLOR, REACH, scene_of, view_rotation
from tpsfm.view.snapshot import splat


@pytest.fixture(scope="module")
def model():
    return make_model()


def test_frustum_corners_are_the_image_corners(model):
    scene = scene_of(model)
    assert scene.names == list(model.images)
    pose, camera = model.images["photo 2.jpg"], model.cameras[1]
    apex, *corners = scene.frustums[2].astype(float)
    np.testing.assert_allclose(apex, pose.center, atol=1e-5)
    x = (camera.matrix @ (pose.rotation @ np.transpose(corners) + pose.translation[:, None])).T
    expected = [(-0.5, -0.5), (639.5, -0.5), (639.5, 479.5), (-0.5, 479.5)]
    np.testing.assert_allclose(x[:, :2] / x[:, 2:], expected, atol=1e-2)


def test_up_is_up_though_all_photos_look_down(model):
    np.testing.assert_allclose(scene_of(model).up, [0, 0, 1], atol=0.01)


def test_up_is_up_though_some_photos_are_turned(model):
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    poses = {}
    for i, (name, pose) in enumerate(sorted(model.images.items())):
        turn = np.linalg.matrix_power(quarter, (0, 0, 1, 2, 0)[i % 5])
        poses[name] = replace(pose, rotation=turn @ pose.rotation, translation=turn @ pose.translation)
    turned = Model(model.cameras, poses, model.points, model.colors, model.errors, model.track_lengths)
    np.testing.assert_allclose(scene_of(turned).up, [0, 0, 1], atol=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_up_is_up_though_photos_of_all_headings_look_straight_down(model, seed):
    rng, poses = np.random.default_rng(seed), {}
    for i in range(12):
        heading = cv2.Rodrigues(np.array([0, 0, rng.uniform(0, 2 * np.pi)]))[0]
        rotation = cv2.Rodrigues(rng.normal(0, 0.1, 3))[0] @ np.diag([1.0, -1.0, -1.0]) @ heading
        poses[f"{i}.jpg"] = Pose(1, rotation, -rotation @ (*rng.uniform(-5, 5, 2), 20.0))
    flight = Model(model.cameras, poses, model.points, model.colors, model.errors, model.track_lengths)
    np.testing.assert_allclose(scene_of(flight).up, [0, 0, 1], atol=0.2)


def test_up_of_a_single_photo(model):
    name, pose = next(iter(model.images.items()))
    scene = scene_of(Model(model.cameras, {name: pose}, model.points, model.colors, model.errors, model.track_lengths))
    np.testing.assert_allclose(scene.up, -pose.rotation[1], atol=1e-3)


def test_the_overview_has_all_in_sight(model):
    scene = scene_of(model)
    eye, target, up = scene.overview
    x, y, z = view_rotation(eye, target, up) @ (np.concatenate([scene.points, scene.frustums[:, 0]]) - eye).T
    assert (np.abs(x) < REACH[0] * z).mean() > 0.97 and (np.abs(y) < REACH[1] * z).mean() > 0.97
    assert eye[2] > 0 and eye[1] < -4  # above, and behind the photos


def test_far_outliers_and_excess_points_are_left_out(model):
    points = model.points.copy()
    points[:3] *= 1e4
    far = Model(model.cameras, model.images, points, model.colors, model.errors, model.track_lengths)
    assert len(scene_of(far).points) == len(points) - 3
    assert len(scene_of(model, max_points=100).points) == 100


def test_queries_have_a_colour_of_their_own(model):
    scene = scene_of(model, queries=make_model(photos=2, points=0))
    assert len(scene.names) == 10
    assert (scene.frustum_colors[:8] == PHOTO_COLOR).all() and (scene.frustum_colors[8:] == QUERY_COLOR).all()


@pytest.mark.parametrize("make", [empty_model, lambda: make_model(1, 0), lambda: make_model(2, 1)])
def test_small_maps_can_be_drawn(make):
    assert splat(scene_of(make()), (160, 100)).shape == (100, 160, 3)


def test_splatting_draws_what_is_there(model):
    picture = splat(scene_of(model), (640, 400))
    assert near(picture, BACKGROUND).mean() > 0.4
    rows, columns = np.nonzero(near(picture, GREEN))
    assert len(rows) > 4000
    wide, high = np.ptp(columns), np.ptp(rows)
    assert 0.85 < wide / high < 1.15  # a ball stays round
    assert near(picture, PHOTO_COLOR, 60).sum() > 300


def test_nearer_points_hide_farther_ones(model):
    """A red ball inside the green one can't be seen where the green one is dense."""
    points, colors = np.concatenate([model.points, 0.8 * model.points]), np.repeat([GREEN, (255, 0, 0)], 3000, 0)
    twice = Model(model.cameras, model.images, points, colors.astype(np.uint8), np.zeros(6000), np.full(6000, 2))
    picture = splat(scene_of(twice), (640, 400))
    assert near(picture, GREEN).sum() > 2 * near(picture, (255, 0, 0)).sum()


def test_open3d_and_our_own_renderer_draw_the_same(model, tmp_path):
    try:
        window.draw(scene_of(model), tmp_path / "map.png", (640, 400), timeout=120)
    except TpsfmError as error:
        pytest.skip(f"Open3D can't draw off-screen here: {error}")
    theirs, ours = np.asarray(Image.open(tmp_path / "map.png")), splat(scene_of(model), (640, 400))
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs[2, 2], BACKGROUND, atol=2)
    for color, least in ((GREEN, 0.9), (PHOTO_COLOR, 0.5)):
        a, b = ((near(p, color, 60)).astype(float) for p in (theirs, ours))
        a, b = (p.reshape(40, 10, 64, 10).mean((1, 3)).ravel() for p in (a, b))
        assert np.corrcoef(a, b)[0, 1] > least

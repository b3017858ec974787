"""The demo's photos are what their known cameras would see."""

import itertools
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from tpsfm.demo.dataset import camera_path, render_scene
from tpsfm.demo.rendering import Quad, View, draw, light, look_at
from tpsfm.errors import TpsfmError

SIZE = (640, 480)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Twelve photos, rendered twice."""
    root = tmp_path_factory.mktemp("demo")
    for name in ("one", "two"):
        render_scene(root / name, views=12, size=(320, 240), seed=3)
    return root


def test_same_seed_same_files(scene):
    names = sorted(path.relative_to(scene / "one") for path in (scene / "one").rglob("*.*"))
    assert len(names) == 13
    for name in names:
        assert (scene / "one" / name).read_bytes() == (scene / "two" / name).read_bytes()


def test_other_seed_other_cameras():
    one, two = (camera_path(4, SIZE, seed) for seed in (0, 1))
    assert not np.allclose(one[0].C, two[0].C)


def test_neighbours_match_and_obey_the_known_cameras(scene):
    truth = json.loads((scene / "one" / "gt.json").read_text())
    sift = cv2.SIFT_create(1500)
    features = {name: sift.detectAndCompute(cv2.imread(str(scene / "one/images" / name), 0), None) for name in truth}
    first_pass = list(truth)[:6]
    for name0, name1 in itertools.pairwise(first_pass):
        matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(features[name0][1], features[name1][1])
        x0 = np.array([features[name0][0][m.queryIdx].pt for m in matches])
        x1 = np.array([features[name1][0][m.trainIdx].pt for m in matches])
        distance = epipolar_distance(truth[name0], truth[name1], x0, x1)
        inliers = distance < 1
        assert inliers.sum() > 100, (name0, name1)
        assert np.median(distance[inliers]) < 0.3


def epipolar_distance(camera0, camera1, x0, x1):
    """Sampson distance in pixels of points [N, 2]."""
    K, R0, R1 = np.array(camera0["K"]), np.array(camera0["R"]), np.array(camera1["R"])
    rotation, translation = R1 @ R0.T, R1 @ (np.array(camera0["C"]) - camera1["C"])
    tx, ty, tz = translation
    essential = np.array([[0, -tz, ty], [tz, 0, -tx], [-ty, tx, 0]]) @ rotation
    fundamental = np.linalg.inv(K).T @ essential @ np.linalg.inv(K)
    x0, x1 = (np.column_stack([x, np.ones(len(x))]) for x in (x0, x1))
    line1, line0 = x0 @ fundamental.T, x1 @ fundamental
    scale = np.sqrt((line0[:, :2] ** 2).sum(1) + (line1[:, :2] ** 2).sum(1))
    return np.abs((x1 * line1).sum(1)) / scale


def test_photos_carry_their_focal_length(scene):
    photo = Image.open(scene / "one" / "images" / "view_000.jpg")
    assert photo.size == (320, 240)
    assert photo.getexif().get_ifd(0x8769)[0xA405] == 28


def test_progress_is_told(tmp_path):
    seen = []
    render_scene(tmp_path, views=2, size=(64, 64), progress=seen.append)
    assert seen == [1, 2]


@pytest.mark.parametrize(("views", "size"), [(1, SIZE), (4, (640, 32))])
def test_refuses_what_cannot_be_rendered(tmp_path, views, size):
    with pytest.raises(TpsfmError, match="at least 2"):
        render_scene(tmp_path, views=views, size=size)


def test_refuses_a_file_as_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TpsfmError, match="choose another folder"):
        render_scene(tmp_path / "file", views=2)


def quad(depth, side, colour):
    """A square facing a camera in the origin that looks along y; its middle is on the axis."""
    across, down = np.array([side, 0, 0.0]), np.array([0, 0, -side])
    albedo = np.full((32, 32, 3), colour, np.float32)
    return Quad(np.array([-side / 2, depth, side / 2]), across, down, albedo, np.zeros((32, 32), np.float32))


def view():
    K = np.array([[100, 0, 49.5], [0, 100, 49.5], [0, 0, 1.0]])
    return View(K, look_at(np.zeros(3), [0, 1, 0]), np.zeros(3), (100, 100))


def render(*quads, sun=(0, -1, 0)):
    return draw(light(list(quads), np.array(sun, float), 5.0, np.zeros(3)), view())


def test_a_square_covers_its_projection_at_its_depth():
    _, inverse_depth = render(quad(4.0, 2.0, 0.5))
    rows, columns = np.nonzero(inverse_depth)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 74, 25, 74)
    np.testing.assert_allclose(inverse_depth[inverse_depth > 0], 0.25, rtol=1e-5)


def test_texture_stands_upright():
    square = quad(4.0, 2.0, 0.05)
    square.albedo[:16, 16:] = 0.9  # top right
    image, _ = render(square)
    corners = image[[30, 30, 70, 70], [30, 70, 30, 70]].mean(-1)
    assert corners.argmax() == 1 and corners[1] > corners[[0, 2, 3]].max() + 50


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearer_square_hides_the_farther(order):
    image, inverse_depth = render(*[quad(2.0, 0.5, 0.9), quad(4.0, 2.0, 0.05)][::order])
    assert inverse_depth[50, 50] == pytest.approx(0.5, rel=1e-5)
    assert inverse_depth[30, 30] == pytest.approx(0.25, rel=1e-5)
    assert image[50, 50].mean() > image[30, 30].mean() + 50


def test_a_cut_out_shows_what_is_behind():
    front = quad(2.0, 0.5, 0.9)
    front.alpha = np.zeros((32, 32), bool)
    front.alpha[:, :8] = True
    _, inverse_depth = render(front, quad(4.0, 2.0, 0.05))
    assert inverse_depth[50, 50] == pytest.approx(0.25, rel=1e-5)
    assert inverse_depth[50, 39] == pytest.approx(0.5, rel=1e-5)


def test_nothing_is_seen_from_behind():
    square = quad(4.0, 2.0, 0.5)
    square.origin, square.across = square.origin + square.across, -square.across
    assert not render(square)[1].any()


def test_a_square_casts_a_shadow():
    low_sun = np.array([-0.6, -0.8, 0.0])  # from the left, behind the camera: the shadow falls to the right
    image, _ = render(quad(3.0, 0.6, 0.5), quad(4.0, 2.0, 0.5), sun=low_sun)
    shadow_x = round(49.5 + 100 * 0.75 / 4)
    assert image[50, 31].mean() > 1.2 * image[50, shadow_x].mean()

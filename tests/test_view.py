"""What the viewers show is the map: its points and photos, where they are, in their colours."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import Browser, wait_for
from PIL import Image

from tpsfm.errors import TpsfmError
from tpsfm.model import Camera, Model, Pose
from tpsfm.rendering import look_at
from tpsfm.view import drawing
from tpsfm.view.charts import beside, curves, histogram
from tpsfm.view.report import Facts, page, write_report
from tpsfm.view.scene import BACKGROUND, PHOTO_COLOR, QUERY_COLOR, REACH, scene_of, view_rotation
from tpsfm.view.snapshot import snapshot
from tpsfm.view.splatting import splat
from tpsfm.view.thumbnails import thumbnail
from tpsfm.view.web import serve
from tpsfm.view.window import show

GREEN, MAGENTA = (40, 220, 90), (230, 30, 220)
HERE = str(Path(__file__).parent)
PANEL = "[...document.querySelectorAll('input')].map(e => e.value)"


def make_model(photos=8, points=3000, seed=0):
    """A green ball seen by photos in an arc around it; z is up."""
    rng = np.random.default_rng(seed)
    ball = rng.normal(size=(points, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    images = {}
    for i, angle in enumerate(np.radians(np.linspace(-60, 60, photos))):
        centre = 4 * np.array([np.sin(angle), -np.cos(angle), 0.25])
        rotation = look_at(centre, np.zeros(3))
        images[f"photo {i}.jpg"] = Pose(1, rotation, -rotation @ centre, observations=100 + i)
    camera = Camera("SIMPLE_RADIAL", 640, 480, [500.0, 320, 240, 0.01])
    colors = np.tile(np.array(GREEN, np.uint8), (points, 1))
    errors = rng.uniform(0, 1, points).astype(np.float32)
    return Model({1: camera}, images, ball, colors, errors, rng.integers(2, 9, points).astype(np.int32))


@pytest.fixture(scope="module")
def model():
    return make_model()


def empty_model():
    none = np.zeros(0)
    return Model({}, {}, np.zeros((0, 3)), np.zeros((0, 3), np.uint8), none.astype(np.float32), none.astype(np.int32))


def near(picture, color, tolerance=30):
    """bool [H, W], where a picture has about that colour."""
    return np.abs(picture.astype(int) - color).max(-1) <= tolerance


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
        drawing.run(scene_of(model), tmp_path / "map.png", (640, 400), timeout=120)
    except TpsfmError as error:
        pytest.skip(f"Open3D can't draw off-screen here: {error}")
    theirs, ours = np.asarray(Image.open(tmp_path / "map.png")), splat(scene_of(model), (640, 400))
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs[2, 2], BACKGROUND, atol=2)
    for color, least in ((GREEN, 0.9), (PHOTO_COLOR, 0.5)):
        a, b = ((near(p, color, 60)).astype(float) for p in (theirs, ours))
        a, b = (p.reshape(40, 10, 64, 10).mean((1, 3)).ravel() for p in (a, b))
        assert np.corrcoef(a, b)[0, 1] > least


def test_a_snapshot_works_anywhere(model, tmp_path):
    assert snapshot(model, tmp_path / "map.png", (640, 400)) in ("open3d", "tpsfm")
    picture = np.asarray(Image.open(tmp_path / "map.png"))
    assert picture.shape == (400, 640, 3)
    assert near(picture, GREEN).sum() > 4000


@pytest.fixture
def broken_open3d(tmp_path, monkeypatch):
    """An Open3D whose system library is missing."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "open3d.py").write_text(
        'raise ImportError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")'
    )
    # `python -m` puts the working directory first
    monkeypatch.chdir(tmp_path / "path")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))


@pytest.mark.usefixtures("broken_open3d")
def test_missing_system_libraries_are_named_in_one_line(model, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(TpsfmError) as error:
        show(model)
    for word in ("libusb-1.0.so.0", "apt install libusb-1.0-0 libgl1 libgomp1", "--web"):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("broken_open3d")
def test_a_snapshot_needs_no_open3d(model, tmp_path):
    assert snapshot(model, tmp_path / "map.png", (320, 200)) == "tpsfm"
    assert near(np.asarray(Image.open(tmp_path / "map.png")), GREEN).sum() > 1000


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("map.jpg", (640, 400), "doesn't end in .png"),
        ("no/map.png", (640, 400), "can't write"),
        ("a.png", (1, 1), "64"),
    ],
)
def test_snapshots_that_cannot_be(model, tmp_path, name, size, message):
    with pytest.raises(TpsfmError, match=message):
        snapshot(model, tmp_path / name, size)


def test_no_window_without_a_display(model, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(TpsfmError, match="there is no display; use 'tpsfm view --web'"):
        show(model)


@pytest.fixture
def display(tmp_path):
    """The name of a virtual X display."""
    if not shutil.which("Xvfb"):
        pytest.skip("no virtual display on this machine (Debian: apt install xvfb)")
    number = tmp_path / "display"
    with open(number, "w") as file:
        command = ["Xvfb", "-displayfd", str(file.fileno()), "-screen", "0", "1400x900x24"]
        server = subprocess.Popen(command, pass_fds=[file.fileno()], stderr=subprocess.DEVNULL)
    yield ":" + wait_for(lambda: number.read_text().strip(), 20)
    server.terminate()
    server.wait(20)


def test_the_window_shows_the_map(model, display):
    from PIL import ImageGrab

    drawing_it = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_view import make_model, show; show(make_model())"
    )
    window = subprocess.Popen(
        [sys.executable, "-c", drawing_it, HERE],
        env={**os.environ, "DISPLAY": display},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 60
        while near(np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB")), GREEN).sum() < 2000:
            if window.poll() is not None:
                problem = window.stderr.read().strip().splitlines()[-1]
                pytest.skip(f"Open3D opens no window here: {problem}")
            assert time.monotonic() < end, "the window shows no point"
            time.sleep(0.5)
        picture = np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB"))
        assert near(picture, PHOTO_COLOR, 60).sum() > 300
        assert near(picture, BACKGROUND, 3).mean() > 0.3
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(window.pid, signal.SIGKILL)
        window.wait(20)


@pytest.fixture
def photos(model, tmp_path):
    """The model's photos, plain magenta; the last one is missing."""
    for name in list(model.images)[:-1]:
        Image.new("RGB", (640, 480), MAGENTA).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def served(model, photos):
    """The address of the served model."""
    address = []
    server = serve(model, photos, port=0, block=False, ready=address.append)
    yield address[0]
    server.stop()


def test_the_page_is_served_on_loopback_only(served):
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", served)


def test_a_taken_port_is_told(model, served):
    port = int(served.rsplit(":", 1)[1])
    with pytest.raises(TpsfmError, match=f"can't serve on 127.0.0.1:{port}.*--port"):
        serve(model, port=port, block=False)


def test_the_page_shows_points_frustums_and_thumbnails(served, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.open(served)

        def complete():
            picture = browser.screenshot()
            return near(picture, GREEN, 60).sum() > 2000 and near(picture, MAGENTA, 40).sum() > 500

        wait_for(complete, 60)
        time.sleep(2)  # until the camera has come to rest
        picture = browser.screenshot()
        assert near(picture, PHOTO_COLOR, 70).sum() > 100
        # Click in the middle of the largest patch of magenta: one of the photos.
        rows, columns = np.nonzero(near(picture, MAGENTA, 40))
        middle = np.argmin(np.hypot(rows - np.median(rows), columns - np.median(columns)))
        browser.click(int(columns[middle]), int(rows[middle]))
        wait_for(lambda: any(value.startswith("photo ") for value in browser.evaluate(PANEL)), 30)
        before = near(picture, MAGENTA, 40).sum()
        wait_for(lambda: near(browser.screenshot(), MAGENTA, 40).sum() > 4 * before, 30)  # it came close


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "CMYK", "P"])
def test_thumbnails_of_every_mode(tmp_path, mode):
    value = 40000 if mode == "I;16" else 156
    grey = Image.new("L", (400, 200), 156) if mode != "I;16" else Image.new("I;16", (400, 200), value)
    image = grey if mode in ("L", "I;16") else grey.convert("RGB").convert(mode)
    path = tmp_path / ("photo.tif" if mode in ("CMYK", "I;16") else "photo.png")
    image.save(path)
    small = thumbnail(path, 100)
    assert small.shape == (50, 100, 3)
    np.testing.assert_allclose(small, 156, atol=5)  # a palette's own colour is 3 off


def test_no_thumbnail_of_a_broken_photo(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff nothing")
    assert thumbnail(tmp_path / "photo.jpg") is None
    assert thumbnail(tmp_path / "missing.jpg") is None


@pytest.fixture
def workspace(tmp_path, photos):
    manifest = {
        "images": str(photos),
        "left_out": {"<script>alert(1)</script>.jpg": "too few keypoints (3)"},
        "stages": {"extract": {"seconds": 1.5}, "map": {"seconds": 2.25}},
        "options": {"features": "tpr", "masks": None},
        "versions": {"tpsfm": "0.1"},
        "result": {"other_models": {"1": 3}},
    }
    return SimpleNamespace(manifest=manifest, report=tmp_path / "report.html")


def test_the_report_tells_all_and_needs_nothing(model, workspace):
    write_report(workspace, model)
    html = workspace.report.read_text()
    assert "<script" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;.jpg" in html
    assert not re.search(r"""(src|href)=["'](?!data:)""", html) and "http" not in html
    for text in (
        "8 <small class='soft'>of 9<",
        "3,000",
        "too few keypoints (3)",
        "SIMPLE_RADIAL",
        "3.8 s",
        "photo 7.jpg",
    ):
        assert text in html
    assert html.count("data:image/jpeg") == 1 + 7  # the map and the photos that are there


def test_the_report_looks_right(model, workspace, tmp_path):
    write_report(workspace, model)
    with Browser(tmp_path / "profile") as browser:
        browser.open(workspace.report.as_uri())
        assert browser.evaluate("[...document.images].slice(0, 1).every(i => i.naturalWidth > 1000)")
        assert browser.evaluate("document.querySelectorAll('svg rect').length") > 20
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert near(browser.screenshot(), GREEN, 60).sum() > 2000


def test_a_report_without_a_map():
    html = page(None, Facts("nothing", 2, {"a.jpg": "no pair", "b.jpg": "no pair"}))
    assert "0 <small class='soft'>of 2<" in html and html.count("no pair") == 2


def test_a_report_of_a_map_without_points():
    assert "of 1<" in page(make_model(1, 0), Facts("few", 1))


def test_a_report_that_cannot_be_written(model, workspace, tmp_path):
    workspace.report = tmp_path / "missing" / "report.html"
    with pytest.raises(TpsfmError, match="can't write"):
        write_report(workspace, model)


def test_curves_are_where_their_values_are():
    svg = curves(np.array([1, 2, 3]), {"A & B": np.array([0, 50, 100]), "C": np.array([100, 100, 100])}, "T", "px", 100)
    xml = ElementTree.fromstring(beside([svg, svg]))
    lines = [line.get("points") for line in xml.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 4
    first, flat = ([tuple(map(float, at.split(","))) for at in line.split()] for line in lines[:2])
    assert [x for x, _ in first] == [34, 154, 274]
    assert [y for _, y in first] == [264, 144, 24]
    assert {y for _, y in flat} == {24}
    assert [child.get("x") for child in xml] == ["0", "360"]
    assert "A & B" in [text.text for text in xml.iter("{http://www.w3.org/2000/svg}text")]


def test_histogram_counts():
    svg = histogram(np.array([0.5, 1.5, 1.6, 99.0]), np.array([0, 1, 2, 3]), "Error & more", "px")
    counts = [int(n) for n in re.findall(r": (\d+)</title>", svg)]
    assert counts == [1, 2, 1] and "2 and more px: 1" in svg and "Error &amp; more" in svg


def test_the_server_can_block_and_be_stopped(model):
    """As the command line uses it: it serves until it is interrupted."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_view import make_model, serve;"
        "serve(make_model(2, 50), port=0, ready=lambda address: print(address, flush=True))"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", script, HERE],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell may have it ignored
    )
    watchdog = threading.Timer(60, server.kill)
    watchdog.start()
    try:
        assert any(line.startswith("http://127.0.0.1:") for line in server.stdout)
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
    finally:
        watchdog.cancel()
        server.kill()

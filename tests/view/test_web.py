"""The page that shows a map, in a browser."""

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.browser import Browser, wait_for
from tests.support.viewed import GREEN, MAGENTA, make_model, near, save_photos
from tpsfm.errors import TpsfmError
from tpsfm.view.scene import PHOTO_COLOR
from tpsfm.view.web import nearest_to_ray, serve

ROOT = Path(__file__).parents[2]
PANEL = "[...document.querySelectorAll('input')].map(e => e.value)"


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture
def served(model, tmp_path):
    """The address of the served model."""
    address = []
    server = serve(model, save_photos(model, tmp_path), port=0, block=False, ready=address.append)
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


def test_a_click_means_the_first_point_near_its_ray():
    points = np.array([[0, 0, 10], [0.02, 0, 5], [1, 0, 5], [0, 0, -1]], np.float32)
    assert nearest_to_ray(points, np.zeros(3), np.array([0, 0, 2.0])) == pytest.approx([0, 0, 10])
    assert nearest_to_ray(points, np.zeros(3), np.array([0.02, 0, 5])) == pytest.approx([0.02, 0, 5])
    assert nearest_to_ray(points, np.zeros(3), np.array([0.0, 1, 0])) is None
    behind = np.array([[0, 0, 20], [0, 0, 10]], np.float32)
    assert nearest_to_ray(behind, np.zeros(3), np.array([0, 0, 1.0])) == pytest.approx([0, 0, 10])
    assert nearest_to_ray(points[:0], np.zeros(3), np.array([0, 0, 1.0])) is None


def test_the_distance_of_two_clicked_points(served, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.open(served)
        wait_for(lambda: near(browser.screenshot(), GREEN, 60).sum() > 2000, 60)
        time.sleep(2)  # until the camera has come to rest
        tick = "[...document.querySelectorAll('input[type=checkbox]')].at(-1).click()"
        browser.evaluate(tick)
        wait_for(lambda: "click a point" in browser.evaluate("document.body.innerText"), 30)
        rows, columns = np.nonzero(near(browser.screenshot(), GREEN, 60))
        row = int(np.median(rows))
        left, right = np.percentile(columns[rows == row], (10, 90)).astype(int).tolist()
        browser.click(left, row)
        wait_for(lambda: "click another point" in browser.evaluate("document.body.innerText"), 30)
        browser.click(right, row)
        found = wait_for(
            lambda: re.search(r"([\d.]+) of the map's units", browser.evaluate("document.body.innerText")), 30
        )
        assert 1 < float(found[1]) < 2.1  # the ball's diameter is 2


def test_the_server_can_block_and_be_stopped(model):
    """As the command line uses it: it serves until it is interrupted."""
    script = (
        "from tpsfm.view.web import serve; from tests.support.viewed import make_model;"
        "serve(make_model(2, 50), port=0, ready=lambda address: print(address, flush=True))"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
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

"""Snapshots and the window, with a display and without, with Open3D and without."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import wait_for
from tests.support.viewed import GREEN, make_model, near
from tpsfm.errors import TpsfmError
from tpsfm.view.scene import BACKGROUND, PHOTO_COLOR
from tpsfm.view.snapshot import snapshot
from tpsfm.view.window import show

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    return make_model()


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

    drawing_it = "from tpsfm.view.window import show; from tests.support.viewed import make_model; show(make_model())"
    window = subprocess.Popen(
        [sys.executable, "-c", drawing_it],
        cwd=ROOT,
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

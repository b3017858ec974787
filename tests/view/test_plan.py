"""The plan of a map in metres."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.support.viewed import GREEN, make_model, near
from tpsfm.view.plan import plan, round_length
from tpsfm.view.report import Facts, page

WORLD = {
    "method": "gps",
    "origin": {"latitude": 55.7, "longitude": 13.2, "altitude": 60.0},
    "utm": {"zone": 33, "hemisphere": "N", "epsg": 32633},
    "rmse": {"horizontal": 0.1, "vertical": 0.2},
    "residuals": [{"name": "photo 0.jpg", "east": 0.1, "north": 0.0, "up": 0.0, "used": True}],
}


@pytest.mark.parametrize(("length", "rounded"), [(7, 5), (1, 1), (0.3, 0.2), (2, 2), (1999, 1000), (0.05, 0.05)])
def test_round_lengths(length, rounded):
    assert round_length(length) == pytest.approx(rounded)


def test_photos_grid_and_scale_bar_are_where_they_are():
    model = make_model()
    svg = str(plan(model))
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="3.5"><title>(.*?)</title>', svg)
    assert [name for *_, name in circles] == list(model.images)
    drawn = np.array([(x, y) for x, y, _ in circles], float)
    known = np.array([pose.center[:2] for pose in model.images.values()])
    length, metres = re.search(r'x1="16" y1="\d+" x2="([\d.]+)".*?>([\d.]+) m</text>', svg, re.S).groups()
    scale = (float(length) - 16) / float(metres)
    assert np.diff(drawn, axis=0) == pytest.approx(np.diff(known, axis=0) * [scale, -scale], abs=0.3)
    x, east = re.findall(r'<text x="([-\d.]+)" y="\d+" text-anchor="middle">([-\d.]+)</text>', svg)[0]
    assert (float(x) - drawn[0, 0]) / scale == pytest.approx(float(east) - known[0, 0], abs=0.01)
    assert ">N</text>" in svg
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", svg)[1])))
    rows, columns = np.nonzero(near(np.asarray(picture.convert("RGB")), GREEN, 60))
    assert columns.mean() == pytest.approx(drawn[0, 0] - known[0, 0] * scale, abs=0.1 * scale)  # the ball is at 0, 0
    assert rows.mean() == pytest.approx(drawn[0, 1] + known[0, 1] * scale, abs=0.1 * scale)


def test_the_report_of_a_map_in_metres_has_it():
    html = page(make_model(), Facts("map", 8, world=WORLD))
    assert 'class="plan"' in html and "EPSG:32633" in html and "after the adjustment" not in html
    adjusted = {**WORLD, "rmse_before_adjustment": {"horizontal": 1.0, "vertical": 1.0}}
    assert "after the adjustment" in page(make_model(), Facts("map", 8, world=adjusted))
    assert 'class="plan"' not in page(make_model(), Facts("map", 8))

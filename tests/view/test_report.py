"""The report of a map, its thumbnails and its histograms."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import Browser
from tests.support.viewed import GREEN, make_model, near, save_photos
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.view.pages import thumbnail
from tpsfm.view.report import Facts, histogram, page, write_report


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture
def workspace(model, tmp_path):
    manifest = {
        "images": str(save_photos(model, tmp_path)),
        "left_out": {"<script>alert(1)</script>.jpg": "too few keypoints (3)"},
        "stages": {
            "extract": {"seconds": 1.5},
            "map": {"seconds": 2.0},
            "align": {
                "seconds": 0.25,
                "counts": {
                    "observations": 5000,
                    "kept": 4500,
                    "error_before": [0.61, 0.52],
                    "error_after": [0.14, 0.09],
                },
            },
        },
        "options": {"features": "tpr", "masks": None},
        "versions": {"tpsfm": "0.1"},
        "result": {"other_models": {"1": 3}},
    }
    made = Workspace(tmp_path)
    made.manifest = manifest
    return made


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
        "0.61 → 0.14 px in the mean, 0.52 → 0.09 px in the median; 4,500 of 5,000 observations kept",
    ):
        assert text in " ".join(html.split())
    assert html.count("data:image/jpeg") == 1 + 7  # the map and the photos that are there


@pytest.mark.parametrize("stage", [{"seconds": 0.1, "counts": {}}, None])
def test_a_map_that_is_not_aligned_says_nothing_of_it(model, workspace, stage):
    workspace.manifest["stages"]["align"] = stage
    if stage is None:
        del workspace.manifest["stages"]["align"]
    write_report(workspace, model)
    assert "Alignment" not in workspace.report.read_text()


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
    with pytest.raises(TpsfmError, match="cannot write"):
        write_report(workspace, model)


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


def test_histogram_counts():
    svg = histogram(np.array([0.5, 1.5, 1.6, 99.0]), np.array([0, 1, 2, 3]), "Error & more", "px")
    counts = [int(n) for n in re.findall(r": (\d+)</title>", svg)]
    assert counts == [1, 2, 1] and "2 and more px: 1" in svg and "Error &amp; more" in svg

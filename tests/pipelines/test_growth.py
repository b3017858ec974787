"""The benchmark of a query's time: a town of courtyards, its map by known poses, and the table by hand."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from pipelines import calibration, growth
from tpsfm.colmap import read_model
from tpsfm.demo.dataset import camera_path


def test_courtyards_stand_apart_and_keep_their_cameras():
    model = growth.town(2)
    assert list(model.images) == [f"{courtyard:04d}/{i:02d}.jpg" for courtyard in range(2) for i in range(10)]
    first, second = (camera_path(10, growth.SIZE, courtyard)[3] for courtyard in range(2))
    for name, view, shift in (("0000/03.jpg", first, 0), ("0001/03.jpg", second, 100)):
        np.testing.assert_allclose(model.images[name].center, view.C + np.array([shift, 0, 0]), atol=1e-9)
    np.testing.assert_allclose(model.cameras[1].matrix, first.K)


def test_photos_of_one_courtyard_are_matched():
    assert growth.neighbours(["0001/01.jpg", "0000/00.jpg", "0001/00.jpg"]) == [("0001/00.jpg", "0001/01.jpg")]


def test_the_table_by_hand():
    steps = {step: [0.1, 0.2, 0.6] for step in growth.STEPS} | {"match": [0.6, 0.2, 0.1]}
    row = {"photos": 10, "points": 5, "load s": 1.0, "peak MiB": 9.0}
    line = growth.summary(row | {"error": [0.01, 0.02, None], "first": ["0000", "0003", "0000"], "seconds": steps})
    assert (line["photos"], line["localized"]) == (10, 2)
    assert line["position cm"] == pytest.approx(2)
    assert line["first image"] == pytest.approx(200 / 3)
    assert line["match ms"] == pytest.approx(200)
    assert line["query ms"] == pytest.approx(1000)  # of 1.0, 1.0 and 2.5 s


def test_queries_find_their_courtyard(tmp_path, monkeypatch):
    for module in (growth, calibration):
        monkeypatch.setattr(module, "SIZE", (320, 240))
    arguments = ["--out", str(tmp_path), "--courtyards", "1", "--courtyards", "2", "--queries", "3"]
    done = CliRunner().invoke(growth.main, arguments)
    assert done.exit_code == 0, done.output
    known = growth.town(2).images
    for name, pose in read_model(tmp_path / "tpr_2" / "sparse").images.items():
        np.testing.assert_allclose(pose.center, known[name].center, atol=1e-6)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    for photos in (10, 20):
        line = growth.summary(rows[f"tpr, {photos} photos"])
        assert (line["photos"], line["localized"]) == (photos, 3)
        assert line["position cm"] < 5

"""The homography benchmark on two tiny sequences of known warps."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from pipelines import hpatches

SIZE = (320, 240)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two sequences of a texture: shifted and shaded, and one of the large that don't count."""
    root = tmp_path_factory.mktemp("hpatches")
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 500)).astype(np.float32)
    texture = sum(scale * cv2.GaussianBlur(noise, (0, 0), scale) for scale in (1, 2, 4))
    texture = cv2.normalize(texture, None, 0, 200, cv2.NORM_MINMAX)
    start = np.array([[1, 0, -60], [0, 1, -60], [0, 0, 1.0]])
    for name in ("i_shade", "v_shift", "v_talent"):
        (root / name).mkdir()
        for i in range(1, 7):
            motion = np.eye(3)
            if name[0] == "v":
                motion[:2, 2] = 4 * (i - 1), -2 * (i - 1)
            image = cv2.warpPerspective(texture, motion @ start, SIZE)
            image = image * (1 - 0.1 * (i - 1)) if name[0] == "i" else image
            cv2.imwrite(str(root / name / f"{i}.png"), image.astype(np.uint8))
            if i > 1:
                np.savetxt(root / name / f"H_1_{i}", motion)
    return root


def run(*arguments):
    return CliRunner().invoke(hpatches.main, [str(argument) for argument in arguments])


def test_tables_figure_and_resumption(data, tmp_path, monkeypatch):
    arguments = ("--data", data, "--features", "sift", "--out", tmp_path, "--each")
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert sorted(key.split()[-1] for key in rows) == ["i_shade", "v_shift"]
    for row in rows.values():
        assert row["mma"] == sorted(row["mma"]) and row["mma"][2] > 90
        assert row["auc"] == sorted(row["auc"]) and row["auc"][3] > 90
        assert row["repeatability"] > 50 and row["localisation"] < 1
        assert 0 < row["matches"] <= row["features"] <= 5000
    assert "theirs, not measured here" in first.output and "| SIFT | 50.10 |" in first.output
    assert (tmp_path / "mma.svg").read_text().count("<polyline") == 3

    monkeypatch.setattr(hpatches, "measure", lambda *_: pytest.fail("measured again"))  # nothing is left to measure
    again = run(*arguments)
    assert again.exit_code == 0 and again.output == first.output


def test_a_line_averages_its_sequences():
    row = {"mma": list(range(10, 110, 10)), "auc": [1, 2, 3, 4], "repeatability": 50, "localisation": None}
    other = {"mma": [0] * 10, "auc": [3, 4, 5, 6], "repeatability": 70, "localisation": 1.5}
    line = hpatches.line(
        {"i_a": row | {"features": 10, "matches": 4}, "v_b": other | {"features": 20, "matches": 6}},
    )
    assert (line["MMA@3"], line["illumination @3"], line["viewpoint @3"]) == (15, 30, 0)
    assert (line["AUC@1"], line["AUC@5"], line["repeatability"], line["localisation px"]) == (2, 5, 60, 1.5)
    assert (line["features"], line["matches"]) == (15, 5)


def test_homography_between_smaller_images():
    big, small = np.zeros((960, 1280, 3), np.uint8), np.zeros((480, 640, 3), np.uint8)
    # The same scene at half the size: a pixel's centre x lies at (x + 0.5) / 2 - 0.5; both become 480 rows.
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    np.testing.assert_allclose(hpatches.between_smaller(half, big, small), np.eye(3), atol=1e-12)


@pytest.mark.parametrize("damage", ["empty", "image", "homography"])
def test_wrong_layouts_end_in_one_line(tmp_path, damage):
    if damage != "empty":
        (tmp_path / "v_a").mkdir()
        for i in range(1, 7):
            np.savetxt(tmp_path / "v_a" / f"H_1_{i}", np.eye(2 if damage == "homography" else 3))
            if damage == "homography":
                cv2.imwrite(str(tmp_path / "v_a" / f"{i}.png"), np.zeros((64, 64), np.uint8))
    result = run("--data", tmp_path, "--features", "sift")
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    wanted = {"empty": "no sequence", "image": "image 1", "homography": "3x3"}[damage]
    assert wanted in result.output and len(result.output.strip().splitlines()) == 1

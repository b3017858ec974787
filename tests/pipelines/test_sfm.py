"""Structure from motion side by side on a rendered scene, and COLMAP's own chain and matcher."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from pipelines import sfm
from pipelines.chains import STAGES
from tpsfm.colmap.baseline import matching_seconds


def run(*arguments):
    return CliRunner().invoke(sfm.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(courtyard, tmp_path_factory):
    """Six photos with known poses, and a set of which no map can be made."""
    root = tmp_path_factory.mktemp("sfm")
    photos = sorted((courtyard / "images").iterdir())
    names = [photo.name for photo in photos[:5]]
    truth = json.loads((courtyard / "gt.json").read_text())
    for name in names:
        (root / "courtyard" / "images").mkdir(parents=True, exist_ok=True)
        shutil.copy(courtyard / "images" / name, root / "courtyard" / "images" / name)
    (root / "courtyard" / "gt.json").write_text(json.dumps({name: truth[name] for name in names}))
    (root / "blank" / "images").mkdir(parents=True)
    from PIL import Image

    for i in range(2):
        Image.new("RGB", (200, 160), (90, 90, 90)).save(root / "blank" / "images" / f"{i}.png")
    (root / "blank" / "gt.json").write_text(json.dumps(dict(zip(("0.png", "1.png"), truth.values(), strict=False))))
    return root


def test_side_by_side(data, tmp_path, monkeypatch):
    chains = ("--features", "sift", "--features", "colmap", "--max-keypoints", 1500)
    arguments = ("--data", data, *chains, "--out", tmp_path)
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert list(rows) == ["blank, sift", "blank, colmap", "courtyard, sift", "courtyard, colmap"]
    for name in ("sift", "colmap"):
        row = rows[f"courtyard, {name}"]
        assert row["registered"] == row["photos"] == 5
        assert row["AUC@5"] > 80 and row["error px"] < 1 and row["track"] > 2 and row["points"] > 100
        assert row["whole s"] == pytest.approx(sum(row.get(f"{stage} s", 0) for stage in STAGES))
        assert 0 < row["median px"] < row["error px"]
        assert row["peak MiB"] > 50
        blank = rows[f"blank, {name}"]
        assert (blank["registered"], blank["AUC@10"]) == (0, 0) and blank["failure"] in first.output

    aligned, colmaps = (rows[f"courtyard, {name}"] for name in ("sift", "colmap"))
    assert 80 < aligned["kept %"] <= 100 and colmaps["kept %"] is None
    assert aligned["error px"] < colmaps["error px"]
    assert aligned["align s"] > 0 and "align s" not in colmaps

    monkeypatch.setattr(sfm, "measure", pytest.fail)  # nothing is left to measure
    assert run(*arguments).output == first.output
    assert "other options" in run(*arguments, "--seed", 1).output


def test_wrong_layout_ends_in_one_line(tmp_path):
    result = run("--data", tmp_path)
    assert result.exit_code == 1 and "images" in result.output and len(result.output.strip().splitlines()) == 1


def test_colmaps_matcher_finds_the_mutual_nearest():
    rng = np.random.default_rng(0)
    base = rng.gamma(0.5, size=(300, 128))
    images = []
    for _ in range(3):
        noisy = np.abs(base + rng.normal(0, 0.05, base.shape))
        images.append(np.minimum(512 * noisy / np.linalg.norm(noisy, axis=1, keepdims=True), 255).astype(np.uint8))
    seconds, matches = matching_seconds(images, threads=1)
    assert seconds > 0 and len(matches) == 3
    for found in matches:
        np.testing.assert_array_equal(found[np.argsort(found[:, 0])], np.repeat(np.arange(300)[:, None], 2, 1))

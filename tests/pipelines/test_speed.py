"""What the speed benchmark times is the same work on both sides; its ratios by hand."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from pipelines import speed
from pipelines import speed_parts as parts


@pytest.fixture(scope="module")
def photos(courtyard, tmp_path_factory):
    """Three photos."""
    folder = tmp_path_factory.mktemp("speed")
    for photo in sorted((courtyard / "images").iterdir())[:3]:
        shutil.copy(photo, folder)
    return folder


def run(*arguments):
    return CliRunner().invoke(speed.main, [str(argument) for argument in arguments])


def test_medians_and_ratios_by_hand():
    runs = [{"a": {"x": 2}, "b": {"x": 1}}, {"a": {"x": 9}, "b": {"x": 3}}, {"a": {"x": 4}, "b": {"x": 1}}]
    assert speed.medians(runs, "a", "x") == {"a x": 4, "b x": 1, "ratio b": 3}  # of 2, 3 and 4
    times = [{"a": {"whole s": 2}, "b": {"whole s": 5}}]
    assert speed.medians(times, "a") == {"a whole s": 2, "b whole s": 5, "ratio b": 2.5}


def test_all_matchers_find_the_same():
    made = parts.descriptors(400, images=3)
    matches = {name: function(made, 1)[1] for name, function in parts.MATCH.items()}
    for found in matches.values():
        assert len(found) == 3
    for number, ours in enumerate(matches["tpsfm"]):
        assert len(ours) > 300
        wanted = {tuple(pair) for pair in ours.tolist()}
        assert wanted == {tuple(pair) for pair in matches["OpenCV"][number].tolist()}
        assert wanted == {tuple(pair) for pair in matches["faiss"][number].tolist()}
        theirs = {tuple(pair) for pair in matches["COLMAP"][number].tolist()}
        assert len(wanted & theirs) > 0.97 * len(wanted)  # its distances are those of whole numbers


def test_sized():
    photo = np.zeros((90, 160), np.uint8)
    photo[:, 20:140] = 200  # the middle of 4:3
    assert parts.sized(photo, 80).shape == (45, 80)
    middle = parts.sized(photo, (64, 48))
    assert middle.shape == (48, 64) and (middle == 200).all()


def test_extraction_and_store(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "EXTRACTIONS", {"small": ((160, 120), 1, 200)})
    monkeypatch.setattr(parts, "STORED_IMAGES", 3)
    arguments = ("--images", photos, "--part", "extraction", "--part", "store", "--repeat", 1, "--out", tmp_path)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert list(rows) == ["extraction, tpr, small", "store, tpsfm, write", "store, tpsfm, read"]
    row = rows["extraction, tpr, small"]
    assert 50 < row["tpr keypoints"] <= 200 and 50 < row["SIFT keypoints"] <= 200 and row["tpr peak MiB"] > 50
    assert row["ratio SIFT"] == pytest.approx(row["tpr images/s"] / row["SIFT images/s"])
    for what in ("write", "read"):
        row = rows[f"store, tpsfm, {what}"]
        assert row["ratio npz"] == pytest.approx(row["tpsfm MB/s"] / row["npz MB/s"])
        assert row["tpsfm MB"] == pytest.approx(row["npz MB"], rel=0.1)


def test_chain(photos, tmp_path):
    arguments = ("--images", photos, "--part", "chain", "--features", "sift", "--repeat", 1, "--max-keypoints", 1000)
    result = run(*arguments, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    ((name, row),) = json.loads((tmp_path / "results.json").read_text())["rows"].items()
    assert name == "chain, sift, 3 photos"
    for method in ("sift", "colmap"):
        stages = sum(row[f"{method} {stage} s"] for stage in ("features", "matches", "map"))
        assert 0 < stages < row[f"{method} whole s"]
    assert row["ratio colmap"] == pytest.approx(row["colmap whole s"] / row["sift whole s"])


def test_a_missing_folder_ends_in_one_line(tmp_path):
    result = run("--images", tmp_path / "none")
    assert result.exit_code == 1 and "no folder of photos" in result.output

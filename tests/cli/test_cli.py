"""The command line: the whole chain for real, and one clear line for each mistake."""

import configparser
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tpsfm.cli import main
from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import load_poses, pose_auc, pose_errors
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction import Stages


def tpsfm(*arguments) -> tuple[int, str]:
    """Exit status and all output of a command."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def mapped(courtyard, tmp_path_factory):
    """A map of the courtyard by our own features, through the real program."""
    out = tmp_path_factory.mktemp("cli") / "map"
    command = [sys.executable, "-m", "tpsfm", "reconstruct", courtyard / "images", out, "--max-keypoints", "2000"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_reconstruct_registers_all_with_small_error(mapped, courtyard):
    out, said = mapped
    assert "registered          10 of 10 photos" in said
    assert "reprojection error" in said
    errors = pose_errors(load_poses(courtyard / "gt.json"), read_model(out / "sparse").images)
    assert pose_auc(errors, [5])[0] > 0.9
    for name in ("run.json", "features.h5", "pairs.txt", "database.db", "points.ply", "report.html"):
        assert (out / name).stat().st_size > 0


def test_info_says_the_same(mapped):
    out, said = mapped
    status, told = tpsfm("info", out)
    assert status == 0
    assert set(told.splitlines()) <= set(said.splitlines())
    assert "10 of 10" in told


def test_stages_one_by_one_give_the_same_map(mapped, courtyard, tmp_path):
    out = tmp_path / "map"
    assert tpsfm("extract", courtyard / "images", out, "--max-keypoints", 2000)[0] == 0
    for command in ("pairs", "match", "map"):
        assert tpsfm(command, out)[0] == 0
    assert (out / "sparse" / "images.bin").read_bytes() == (mapped[0] / "sparse" / "images.bin").read_bytes()


@pytest.mark.parametrize("method", ["sequential", "retrieval"])
def test_other_pairs(method, mapped, tmp_path):
    out = tmp_path / "map"
    shutil.copytree(mapped[0], out)
    status, told = tpsfm("pairs", out, "--pairs", method, "--overlap", 2, "--neighbours", 3)
    assert status == 0, told
    rows = (out / "pairs.txt").read_text().splitlines()
    assert 9 < len(rows) < 45
    assert json.loads((out / "run.json").read_text())["stages"]["pairs"]["counts"]["method"] == method


def test_a_photo_without_overlap_is_explained(courtyard, tmp_path):
    import cv2
    import numpy as np

    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in sorted((courtyard / "images").iterdir())[:4]:
        shutil.copy(photo, folder)
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "other place.png"), cv2.resize(rng.integers(0, 255, (60, 80), np.uint8), (480, 360)))
    cv2.imwrite(str(folder / "wall.png"), np.full((360, 480), 90, np.uint8))
    (folder / "empty.jpg").write_bytes(b"")
    whole = (folder / "view_000.jpg").read_bytes()
    (folder / "cut.JPG").write_bytes(whole[: len(whole) // 3])
    status, told = tpsfm("reconstruct", folder, tmp_path / "map", "--features", "sift")
    assert status == 0, told
    assert "registered          4 of 8 photos" in told
    reasons = json.loads((tmp_path / "map" / "run.json").read_text())["left_out"]
    assert set(reasons) == {"other place.png", "wall.png", "empty.jpg", "cut.JPG"}
    assert reasons["empty.jpg"].startswith("unreadable") and reasons["cut.JPG"].startswith("unreadable")
    assert reasons["wall.png"] == "blank or blurred (no keypoints)"
    assert reasons["other place.png"].startswith("no pair with enough matches")


def one_line(status: int, told: str, *words: str) -> None:
    """Check that a command failed with one line that holds the words."""
    errors = [line for line in told.splitlines() if line.startswith("Error: ")]
    assert status in (1, 2) and len(errors) == 1, told
    for word in words:
        assert word in errors[0]


def test_bad_folders(courtyard, tmp_path):
    images = courtyard / "images"
    one_line(*tpsfm("reconstruct", tmp_path / "none", tmp_path / "a"), "none")
    (tmp_path / "empty").mkdir()
    one_line(*tpsfm("reconstruct", tmp_path / "empty", tmp_path / "b"), "no images")
    (tmp_path / "one").mkdir()
    shutil.copy(images / "view_000.jpg", tmp_path / "one")
    one_line(*tpsfm("reconstruct", tmp_path / "one", tmp_path / "c"), "at least two")
    file = tmp_path / "file"
    file.write_text("mine")
    one_line(*tpsfm("reconstruct", images, file), "is a file")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    one_line(*tpsfm("reconstruct", images, foreign), "not a workspace")
    assert sorted(path.name for path in foreign.iterdir()) == ["thesis.tex"]
    one_line(*tpsfm("info", tmp_path / "nowhere"), "not a workspace")


def test_bad_options(courtyard, tmp_path):
    images = courtyard / "images"
    one_line(*tpsfm("reconstruct", images, tmp_path / "a", "--max-keypoints", 0), "max-keypoints")
    one_line(*tpsfm("reconstruct", images, tmp_path / "a", "--ratio", 2), "ratio")
    one_line(*tpsfm("reconstruct", images, tmp_path / "a", "--features", "surf"), "surf", "sift", "tpr")
    one_line(*tpsfm("reconstruct", images, tmp_path / "a", "--camera-model", "FISH"), "FISH", "SIMPLE_RADIAL")
    one_line(*tpsfm("reconstruct", images, tmp_path / "a", "--weights", tmp_path / "no"), "no such weights file")
    one_line(*tpsfm("reconstruct", images, tmp_path / "a", "--masks", tmp_path / "no"), "masks")
    one_line(*tpsfm("reconstruct", images, tmp_path / "a", "--pairs", "file"), "--pairs-file")


def test_files_among_the_options_are_found_from_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.open(tmp_path / "map", create=True)
    (tmp_path / "masks").mkdir()
    (tmp_path / "a.jpg").touch()
    stages = Stages.of(weights=Path("a.safetensors"), masks="masks")
    stages.record(workspace, tmp_path)
    with pytest.raises(TpsfmError, match="no such weights"):
        stages.features.run(workspace)
    assert workspace.manifest["options"]["weights"] == str(tmp_path / "a.safetensors")
    assert workspace.manifest["options"]["masks"] == str(tmp_path / "masks")


def test_two_photos_without_overlap(tmp_path):
    import cv2
    import numpy as np

    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in (1, 2):
        noise = np.random.default_rng(seed).integers(0, 255, (60, 80), np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC))
    one_line(*tpsfm("reconstruct", folder, tmp_path / "map"), "no map", "overlap")
    status, told = tpsfm("info", tmp_path / "map")
    assert status == 0 and "left out (2)" in told


def test_damaged_files_are_mended(mapped, courtyard, tmp_path):
    out = tmp_path / "map"
    shutil.copytree(mapped[0], out)
    with open(out / "features.h5", "r+b") as file:
        file.truncate((out / "features.h5").stat().st_size // 2)
    (out / "database.db").write_bytes(b"not a database")
    status, told = tpsfm("reconstruct", courtyard / "images", out, "--max-keypoints", 2000)
    assert status == 0, told
    assert (out / "sparse" / "images.bin").read_bytes() == (mapped[0] / "sparse" / "images.bin").read_bytes()


def test_a_second_process_is_refused(mapped, courtyard):
    from tpsfm.io.workspace import Workspace

    out = mapped[0]
    with Workspace.open(out).locked():
        one_line(*tpsfm("reconstruct", courtyard / "images", out), "in use")


@pytest.mark.parametrize("command", main.list_commands(None))
def test_every_command_has_help_with_an_example(command):
    status, told = tpsfm(command, "--help")
    assert status == 0
    assert "Example:" in told and f"tpsfm {command}" in told


def test_every_package_is_installed():
    root = Path(__file__).parents[2]
    given = configparser.ConfigParser()
    given.read(root / "setup.cfg")
    there = {
        ".".join(path.parent.relative_to(base).parts)
        for base, top in ((root, "tpsfm"), (root / "train", "tpr"))
        for path in (base / top).rglob("__init__.py")
    }
    assert set(given["options"]["packages"].split()) == there


def test_a_terminal_that_can_not_print_a_name_shows_an_escape(tmp_path):
    photos = tmp_path / "Fotos 日本"
    photos.mkdir()
    for encoding in ("ascii", "cp1252"):
        run = subprocess.run(
            [sys.executable, "-m", "tpsfm", "reconstruct", photos, tmp_path / "map"],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
        )
        assert run.returncode == 1
        shown = [rb"\u65e5\u672c", "日本".encode()]  # click writes UTF-8 where a terminal claims ASCII
        assert b"no images in" in run.stderr and any(
            name in run.stderr for name in shown[: 2 if encoding == "ascii" else 1]
        )
        assert b"Traceback" not in run.stderr


def test_export_needs_no_photos(held_out, tmp_path):
    shutil.copytree(held_out / "map", tmp_path / "map")
    run = json.loads((tmp_path / "map/run.json").read_text())
    (tmp_path / "map/run.json").write_text(json.dumps({**run, "images": str(tmp_path / "gone")}))
    for format in ("ply", "colmap-bin", "nerfstudio"):
        result = CliRunner().invoke(
            main, ["export", str(tmp_path / "map"), "--format", format, "--to", str(tmp_path / format)]
        )
        assert result.exit_code == 0, result.output

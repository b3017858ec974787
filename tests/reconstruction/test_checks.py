"""What can't work is told at once and before any work, and which options have no effect."""

import shutil

import cv2
import pytest

import tpsfm
from tests.support.localizing import command
from tpsfm.colmap import group_cameras
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.photos import Photo
from tpsfm.reconstruction import Stages


@pytest.fixture
def photos(courtyard, tmp_path):
    """Three photos, of which one is of another size."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("view_000.jpg", "view_001.jpg"):
        shutil.copy(courtyard / "images" / name, folder)
    small = cv2.resize(cv2.imread(str(folder / "view_000.jpg")), (400, 300))
    cv2.imwrite(str(folder / "small.jpg"), small)
    return folder


def test_all_problems_are_told_together_and_nothing_is_done(photos, tmp_path):
    status, told = command(
        *("reconstruct", photos, tmp_path / "map"),
        *("--camera-model", "PINHOLE2", "--camera-mode", "single", "--pairs-file", tmp_path / "nowhere.txt"),
        *("--masks", tmp_path / "masks", "--features", "nope", "--matcher", "magic", "--fix-cameras"),
        *("--poses", tmp_path / "poses.csv", "--gcp", tmp_path / "gcp.txt"),
    )
    assert status == 1 and "Error: 9 things can't work:" in told
    for words in (
        "no features named 'nope'",
        f"no folder of masks {tmp_path / 'masks'}",
        f"cannot read the pairs in {tmp_path / 'nowhere.txt'}",
        "no matcher named 'magic'",
        "no camera model 'PINHOLE2'; there are: SIMPLE_PINHOLE",
        "--fix-cameras holds known cameras; give them with --cameras",
        "the camera mode 'single' can't be: the photos are 480x360 (view_000.jpg and 1 more), 400x300 (small.jpg)",
        "can't read the poses",
        "can't read the ground control points",
    ):
        assert words in told
    workspace = Workspace.open(tmp_path / "map")
    assert not workspace.manifest["stages"] and not workspace.features.exists()
    status, told = command("reconstruct", tmp_path / "none", tmp_path / "map", "--camera-mode", "single")
    assert status == 1 and told.count("does not exist") == 1 and "things" not in told


def test_values_that_can_not_be_are_told_together():
    with pytest.raises(TpsfmError, match=r"3 things can't work:\n  no option 'rato'.*\n  max_keypoints .*\n  mapper"):
        Stages.of(max_keypoints=0, mapper="magic", rato=0.7)


def test_a_pairs_file_means_it_and_other_options_say_that_they_have_no_effect(photos, tmp_path):
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("view_000.jpg view_001.jpg\n")
    arguments = ("--features", "sift", "--max-keypoints", 1000)
    command("reconstruct", photos, tmp_path / "map", *arguments, "--pairs-file", pairs)
    workspace = Workspace.open(tmp_path / "map")
    assert workspace.manifest["stages"]["pairs"]["counts"] == {"pairs": 1, "method": "file"}
    status, told = command("pairs", tmp_path / "map", "--pairs", "exhaustive", "--overlap", 3, "--no-quadratic")
    assert status == 0 and Workspace.open(tmp_path / "map").manifest["stages"]["pairs"]["counts"]["pairs"] == 3
    for flag in ("--overlap 3", "--no-quadratic"):
        assert f"warning: {flag} has no effect with the pairs 'exhaustive'; it is for --pairs sequential" in told
    assert "--pairs-file" not in told
    status, told = command("pairs", tmp_path / "map", "--pairs", "sequential", "--overlap", 3, "--neighbours", 4)
    assert status == 0 and "--overlap" not in told and "--no-quadratic" not in told
    assert "--neighbours 4 has no effect with the pairs 'sequential'; it is for --pairs retrieval or --pairs" in told


def test_a_camera_model_may_be_written_in_any_case(held_out, tmp_path):
    assert Stages.of(camera_model="opencv").verification.camera_model == "OPENCV"
    Stages.of(camera_model="Simple_Pinhole").check(Workspace.open(tmp_path / "map", create=True), held_out / "db")


def test_poses_bring_their_own_cameras(held_out, tmp_path):
    with pytest.raises(TpsfmError, match="--poses brings cameras of its own; leave out --cameras"):
        tpsfm.reconstruct(
            held_out / "db", tmp_path / "map", poses=held_out / "map/sparse", cameras="PINHOLE,480,360,400,400,240,180"
        )


def test_exif_orientation_is_told_where_it_makes_the_sizes_differ():
    photos = {"a.jpg": Photo(640, 427), "b.jpg": Photo(427, 640, orientation=6), "c.jpg": Photo(640, 427)}
    with pytest.raises(TpsfmError) as told:
        group_cameras(photos, "single")
    assert "640x427 (a.jpg and 1 more), 427x640 (b.jpg); they are alike only once EXIF orientation turns 1" in str(
        told.value
    )
    with pytest.raises(TpsfmError) as told:
        group_cameras(photos | {"d.jpg": Photo(100, 100)}, "single")
    assert "EXIF" not in str(told.value)
    assert set(group_cameras(photos, "auto").values()) == {0, 1, 2}

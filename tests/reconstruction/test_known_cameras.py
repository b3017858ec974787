"""Known cameras: started from or held fixed by every mapper, and the resume of runs with them."""

import json

import numpy as np
import pytest

import tpsfm
from tests.support.localizing import command
from tpsfm.colmap import read_model
from tpsfm.evaluation.poses import load_poses, pose_errors
from tpsfm.geometry import Camera

OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1}


def true_camera(root):
    K = next(iter(json.loads((root / "gt.json").read_text()).values()))["K"]
    return f"PINHOLE,480,360,{K[0][0]},{K[1][1]},{K[0][2] + 0.5},{K[1][2] + 0.5}"


def test_fixed_cameras_stay_in_every_mapper_and_the_poses_are_right(held_out, tmp_path):
    given = true_camera(held_out)
    numbers = [float(number) for number in given.split(",")[1:]]
    truth = load_poses(held_out / "gt.json")
    for mapper in ("incremental", "global"):
        options = OPTIONS | {"mapper": mapper, "fix_cameras": True}
        workspace = tpsfm.reconstruct(held_out / "db", tmp_path, cameras=given, **options)
        model = read_model(workspace.sparse)
        (camera,) = model.cameras.values()
        assert camera == Camera("PINHOLE", 480, 360, [*numbers[2:4], numbers[4] - 0.5, numbers[5] - 0.5])
        assert len(model.images) == 8
        assert pose_errors({name: truth[name] for name in model.images}, model.images).max() < 0.3


def test_known_cameras_are_a_start_unless_they_are_fixed(held_out, tmp_path):
    """A focal length that is 8 % too long is mended, or stays; the other camera is another photo's of the folder."""
    true = float(true_camera(held_out).split(",")[3])
    file = tmp_path / "cameras.txt"
    file.write_text("".join(f"view_00{n}.jpg SIMPLE_PINHOLE 480 360 {1.08 * true} 240 180\n" for n in (0, 1, 3)))
    arguments = ("reconstruct", held_out / "db", tmp_path / "map", "--features", "sift", "--max-keypoints", 1500)
    status, said = command(*arguments, "--cameras", file)
    assert status == 0 and "cameras: 3 of 8 photos have a known one; without: view_004.jpg" in said

    def focals():
        model = read_model(tmp_path / "map/sparse")
        lens = {name: model.cameras[pose.camera_id] for name, pose in model.images.items()}
        assert len({model.images[f"view_00{n}.jpg"].camera_id for n in (0, 1, 3)}) == 1
        assert {lens[name].model for name in lens} == {"SIMPLE_PINHOLE", "SIMPLE_RADIAL"}
        return [lens["view_000.jpg"].params[0] / true, lens["view_004.jpg"].params[0] / true]

    np.testing.assert_allclose(focals(), 1, atol=0.01)
    before = json.loads((tmp_path / "map/run.json").read_text())["stages"]
    status, said = command("map", tmp_path / "map", "--fix-cameras")
    assert status == 0 and focals()[0] == pytest.approx(1.08, abs=1e-9)
    after = json.loads((tmp_path / "map/run.json").read_text())["stages"]
    assert after["verify"]["key"] == before["verify"]["key"] and after["map"]["key"] != before["map"]["key"]
    file.write_text(f"SIMPLE_PINHOLE,960,720,{2 * true},480,360\n")
    assert command("map", tmp_path / "map")[0] == 0
    (camera,) = read_model(tmp_path / "map/sparse").cameras.values()
    assert camera.params == pytest.approx([true, 239.5, 179.5], abs=1e-9)

"""A video in, a map out."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

import tpsfm
from tests.support.localizing import command
from tests.support.videos import rendered_walk, write_video
from tpsfm.evaluation.poses import load_poses, pose_auc, pose_errors
from tpsfm.progress import Progress

OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1, "align": False}


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """The folder with clip.mp4 and gt.json, and the clip's map."""
    folder = tmp_path_factory.mktemp("walk")
    write_video(folder / "clip.mp4", rendered_walk(folder))
    workspace = tpsfm.reconstruct(folder / "clip.mp4", folder / "map", **OPTIONS)
    return folder, workspace


def test_a_video_makes_a_map(walk):
    folder, workspace = walk
    frames = sorted(path.name for path in (workspace.root / "frames").iterdir())
    assert 5 <= len(frames) < 25
    model = tpsfm.read_model(workspace.sparse)
    assert set(model.images) == set(frames) and len(model.cameras) == 1
    truth = {name: pose for name, pose in load_poses(folder / "gt.json").items() if name in frames}
    assert pose_auc(pose_errors(truth, model.images), [5])[0] > 0.7
    counts = workspace.manifest["stages"]["pairs"]["counts"]
    assert counts["method"] == "sequential"
    assert "Map of clip.mp4" in workspace.report.read_text()
    assert f"{len(frames)} of 32 of {folder / 'clip.mp4'}" in command("info", workspace.root)[1]


def test_again_nothing_is_done_and_other_frames_replace_these(walk, tmp_path):
    folder, workspace = walk
    shutil.copytree(workspace.root, tmp_path / "map")
    shutil.copy(folder / "clip.mp4", tmp_path / "moved.mp4")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "map/frames").iterdir()}
    status, said = command("extract", tmp_path / "moved.mp4", tmp_path / "map")
    assert status == 0, said
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "map/frames").iterdir()} == before
    assert "features: 0 new" in (tmp_path / "map/log.txt").read_text().splitlines()[-1]
    (tmp_path / "bad.mp4").write_bytes(b"bad")
    status, said = command("extract", tmp_path / "bad.mp4", tmp_path / "map")
    assert status == 1 and "cannot read video" in said
    assert {path.name for path in (tmp_path / "map/frames").iterdir()} == before.keys()
    status, said = command("extract", tmp_path / "moved.mp4", tmp_path / "map", "--fps", 3)
    assert status == 0, said
    assert len(list((tmp_path / "map/frames").iterdir())) == 7


def test_interrupted_it_goes_on_with_the_same_frames(walk, tmp_path):
    folder, workspace = walk

    class Impatient(Progress):
        @contextmanager
        def bar(self, label, total=None):
            def update(done, total):
                if label == "frames" and done > 20:
                    raise KeyboardInterrupt

            yield update

    with pytest.raises(KeyboardInterrupt):
        tpsfm.reconstruct(folder / "clip.mp4", tmp_path / "map", progress=Impatient(), **OPTIONS)
    some = list((tmp_path / "map/frames").iterdir())
    assert some
    written = {path: path.stat().st_mtime_ns for path in some}
    assert command("extract", folder / "clip.mp4", tmp_path / "map", "--features", "sift")[0] == 0
    names = lambda folder: {path.name: path.read_bytes() for path in folder.iterdir()}  # noqa: E731
    assert names(tmp_path / "map/frames") == names(workspace.root / "frames")
    assert {path: path.stat().st_mtime_ns for path in some} == written


def test_a_workspace_with_frames_may_move(walk, tmp_path):
    shutil.copytree(walk[1].root, tmp_path / "moved")
    assert json.loads((tmp_path / "moved/run.json").read_text())["images"] == "frames"
    shutil.rmtree(tmp_path / "moved/mapped")
    status, said = command("map", tmp_path / "moved")
    assert status == 0, said


def test_a_camera_that_stands_is_told(walk, tmp_path):
    frame = (
        np.tile(np.random.default_rng(0).integers(0, 255, (60, 80, 1), np.uint8), (1, 1, 3)).repeat(4, 0).repeat(4, 1)
    )
    status, said = command("reconstruct", write_video(tmp_path / "still.avi", [frame] * 20), tmp_path / "map")
    assert status == 1 and "hardly moves" in said
    (tmp_path / "list.txt").write_text("a.jpg")
    status, said = command("reconstruct", tmp_path / "list.txt", tmp_path / "map")
    assert status == 1 and "cannot read video" in said

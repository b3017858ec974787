"""Cameras that are mounted together; the baseline of the rendered ones is known."""

import json

import numpy as np
import pytest

import tpsfm
from tpsfm.colmap import read_model
from tpsfm.demo.dataset import camera_path, render_scene
from tpsfm.demo.rendering import View
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import aligned_errors, load_poses

PLACES = np.array([(0, 0, 0), (0.4, 0, 0), (0, 0.3, 0), (0.4, 0.3, 0)])  # metres right, down and ahead of the first
MOMENTS = 5
OPTIONS = {"features": "sift", "max_keypoints": 1000, "threads": 1, "turned": False}


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """Photos of four cameras."""
    out = tmp_path_factory.mktemp("rig")
    views = {}
    for moment, view in enumerate(camera_path(2 * MOMENTS, (320, 240))[:MOMENTS]):
        for camera, place in enumerate(PLACES):
            (out / f"images/c{camera}").mkdir(parents=True, exist_ok=True)
            views[f"c{camera}/{moment}.jpg"] = View(view.K, view.R, view.C + view.R.T @ place, view.size)
    render_scene(out, size=(320, 240), cameras=views)
    return out


def write_rig(path, cameras, calibrated=True, prefix="c{}/"):
    rows = []
    for camera in cameras:
        row = {"image_prefix": prefix.format(camera)}
        if camera == cameras[0]:
            row["ref_sensor"] = True
        elif calibrated:
            row |= {"cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": (-PLACES[camera]).tolist()}
        rows.append(row)
    path.write_text(json.dumps([{"cameras": rows}]))
    return path


def photos_of(rig, out, cameras):
    for camera in cameras:
        (out / "images").mkdir(parents=True, exist_ok=True)
        (out / f"images/c{camera}").symlink_to(rig / f"images/c{camera}")
    return out / "images"


@pytest.mark.parametrize(("cameras", "calibrated"), [((0, 1), True), ((0, 1, 2, 3), True), ((0, 1), False)])
def test_a_rig(rig, tmp_path, cameras, calibrated):
    config = write_rig(tmp_path / "rig.json", cameras, calibrated)
    images = photos_of(rig, tmp_path, cameras)
    workspace = tpsfm.reconstruct(images, tmp_path / "map", rig=config, **OPTIONS)
    model = read_model(workspace.sparse)
    assert len(model.images) == MOMENTS * len(cameras) and len(model.cameras) == len(cameras)
    truth = load_poses(rig / "gt.json")
    metres, _ = aligned_errors(truth, model.images)
    assert metres.max() < 0.05
    lengths = []
    for moment in range(MOMENTS):
        first = model.images[f"c{cameras[0]}/{moment}.jpg"]
        for camera in cameras[1:]:
            other = model.images[f"c{camera}/{moment}.jpg"]
            lengths.append(first.rotation @ (other.center - first.center) / np.linalg.norm(PLACES[camera]))
    for one, again in zip(lengths, lengths[len(cameras) - 1 :], strict=False):  # the same at every moment
        assert one == pytest.approx(again, abs=1e-6)
    if calibrated:  # and in metres
        assert np.linalg.norm(lengths, axis=1) == pytest.approx(1, abs=0.05)
    again = tpsfm.reconstruct(images, tmp_path / "map", rig=config, **OPTIONS)
    assert (again.mapped / "images.bin").stat().st_mtime_ns == (workspace.mapped / "images.bin").stat().st_mtime_ns


def test_what_is_no_rig_is_told_before_the_work(rig, tmp_path):
    def refused(said, path):
        with pytest.raises(TpsfmError, match=said):
            tpsfm.reconstruct(images, tmp_path / "map", rig=path, **OPTIONS)

    images = photos_of(rig, tmp_path, (0, 1))
    path = tmp_path / "rig.json"
    refused("no photo's name begins with 'd0/'; the first one is c0/0.jpg", write_rig(path, (0, 1), prefix="d{}/"))
    path.write_text("nothing")
    refused("is not COLMAP's rig.json", path)
    path.write_text("[]")
    refused("names no rig", path)
    path.write_text('[{"cameras": [{"image_prefix": "c0/"}]}]')
    refused("is not COLMAP's rig.json: .*must have one reference sensor", path)
    refused("can't read the rig .*none.json", tmp_path / "none.json")
    path.write_text('[{"cameras": [{"image_prefix": "c0/0", "ref_sensor": true}, {"image_prefix": "c1/1"}]}]')
    refused("have the same name after these", write_two(path))


def write_two(path):
    rows = [{"image_prefix": "c0/0.", "ref_sensor": True}, {"image_prefix": "c1/1"}]
    path.write_text(json.dumps([{"cameras": rows}]))
    return path

"""The stage of alignment: exact keypoints in the map, and what it does where photos are gone."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

import tpsfm
from tpsfm.alignment.storage import read_patches_of
from tpsfm.alignment.views import PhotoView
from tpsfm.colmap import read_model, read_observations, read_point_ids
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import aligned_errors, load_poses
from tpsfm.progress import Progress

OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1}


def map_bytes(folder) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("cameras.bin", "images.bin", "points3D.bin")]


@pytest.fixture(scope="module")
def photos(courtyard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned") / "photos"
    folder.mkdir()
    for photo in sorted((courtyard / "images").iterdir())[:7]:
        shutil.copy(photo, folder)
    return folder


@pytest.fixture(scope="module")
def workspace(photos):
    return tpsfm.reconstruct(photos, photos.parent / "map", **OPTIONS)


def test_the_aligned_map_is_more_exact(workspace, courtyard):
    before, after = read_model(workspace.mapped), read_model(workspace.sparse)
    assert np.median(after.errors) < 0.6 * np.median(before.errors)
    assert after.track_lengths.sum() > 0.8 * before.track_lengths.sum()
    assert after.images.keys() == before.images.keys()
    truth = {name: pose for name, pose in load_poses(courtyard / "gt.json").items() if name in after.images}
    true_before, true_after = (np.median(aligned_errors(truth, model.images)[0]) for model in (before, after))
    assert true_after < 0.8 * true_before


def test_the_figures_are_told(workspace):
    counts = json.loads(workspace.run.read_text())["stages"]["align"]["counts"]
    assert counts["kept"] < counts["observations"]
    assert counts["error_after"][0] < counts["error_before"][0]
    assert counts["error_after"][0] == pytest.approx(read_model(workspace.sparse).errors.mean(), rel=1e-5)


def test_the_features_stay_as_detected(workspace):
    mapped, aligned = read_observations(workspace.mapped), read_observations(workspace.sparse)
    moved = [np.linalg.norm(aligned[name][0] - mapped[name][0], axis=1) for name in aligned]
    assert all(0 < (distance > 0).mean() < 1 and distance.max() < 3 for distance in moved)


def test_every_point_has_its_patch(workspace):
    ids = read_point_ids(workspace.sparse)
    patches = read_patches_of(workspace.patches, ids)
    assert (patches.reference >= 0).all() and (patches.pixels.std(1) > 1).mean() > 0.99
    unknown = read_patches_of(workspace.patches, np.array([ids.max() + 5]))
    assert unknown.reference.tolist() == [-1]
    with pytest.raises(TpsfmError, match="tpsfm map"):
        read_patches_of(workspace.root / "none.h5", ids)


def test_a_finished_alignment_is_not_done_again(workspace, photos):
    before = {path: path.stat().st_mtime_ns for path in workspace.sparse.iterdir()}
    tpsfm.reconstruct(photos, workspace.root, **OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in workspace.sparse.iterdir()} == before


def test_off_and_on_again(workspace, photos, tmp_path):
    out = tmp_path / "map"
    shutil.copytree(workspace.root, out)
    tpsfm.reconstruct(photos, out, align=False, **OPTIONS)
    assert map_bytes(out / "sparse") == map_bytes(workspace.mapped)
    assert not (out / "patches.h5").exists()
    tpsfm.reconstruct(photos, out, **OPTIONS)
    assert map_bytes(out / "sparse") == map_bytes(workspace.sparse)


def test_photos_that_are_gone_keep_their_keypoints(workspace, photos, tmp_path, caplog):
    out, there = tmp_path / "map", tmp_path / "photos"
    shutil.copytree(photos, there)
    tpsfm.reconstruct(there, out, align=False, **OPTIONS)
    gone = ["view_001.jpg", "view_004.jpg"]
    (there / gone[0]).unlink()
    (there / gone[1]).write_bytes((there / "view_000.jpg").read_bytes())  # another photo under its name
    from tpsfm.io.workspace import Workspace
    from tpsfm.reconstruction.alignment import Alignment

    again = Workspace.open(out)
    with again.locked():
        Alignment(threads=1).run(again)
    assert "2 of 7 photos are gone or changed" in caplog.text
    before, after = read_observations(again.mapped), read_observations(again.sparse)
    for name in after:
        still = np.array_equal(after[name][0], before[name][0])
        assert still == (name in gone)
    assert np.median(read_model(again.sparse).errors) < np.median(read_model(again.mapped).errors)
    for photo in there.iterdir():
        photo.unlink()
    (out / "sparse" / "images.bin").unlink()
    with again.locked():
        Alignment(threads=1).run(again)
    assert "7 of 7 photos" in caplog.text
    assert read_model(again.sparse).images.keys() == read_model(again.mapped).images.keys()


class Ends(Progress):
    """Ends a run, as a signal would, once so many steps of the alignment are done."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    @contextmanager
    def bar(self, label: str, total: int | None = None):
        def update(done: int, total: int) -> None:
            if label == "alignment" and done == self.steps:
                raise KeyboardInterrupt

        yield update


def test_an_alignment_that_was_ended_goes_on(workspace, photos, tmp_path, monkeypatch):
    out = tmp_path / "map"
    shutil.copytree(workspace.root, out)
    tpsfm.reconstruct(photos, out, align=False, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        tpsfm.reconstruct(photos, out, progress=Ends(11), **OPTIONS)
    read = []
    decode = PhotoView.read
    monkeypatch.setattr(PhotoView, "read", lambda view: read.append(view.photo.name) or decode(view))
    tpsfm.reconstruct(photos, out, **OPTIONS)
    assert 3 <= len(read) <= 3 + 7  # what was left of 14, and a look for look-alikes
    assert map_bytes(out / "sparse") == map_bytes(workspace.sparse)
    assert not (out / "aligning").exists()

"""A run that is killed in any stage goes on, redoes nothing that was done, and gives the same map."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

import tpsfm
from tpsfm import colmap
from tpsfm.colmap import PairTable, read_model, snapshots
from tpsfm.evaluation.poses import aligned_errors, load_poses
from tpsfm.features.store import FeatureStore
from tpsfm.progress import Progress
from tpsfm.reconstruction import stage

COMMAND = [sys.executable, "-m", "tpsfm", "reconstruct"]
LIMITS = ["--max-keypoints", "1000", "--threads", "1", "--features", "sift"]


def run(images: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, str(images), str(out), *LIMITS], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def model_bytes(out: Path) -> list[bytes]:
    return [(out / "sparse" / name).read_bytes() for name in ("cameras.bin", "images.bin", "points3D.bin")]


@pytest.fixture(scope="module")
def images(courtyard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight") / "images"
    folder.mkdir()
    for photo in sorted((courtyard / "images").iterdir())[:8]:
        shutil.copy(photo, folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    tpsfm.reconstruct(images, out, max_keypoints=1000, threads=1, features="sift")
    return out


def in_extract(out: Path) -> bool:
    return (out / "features.h5").exists() and (out / "features.h5").stat().st_size > 300_000


def in_match(out: Path) -> bool:
    return (out / "database.db").exists()


def in_verify(out: Path) -> bool:
    return (out / "run.json").exists() and '"match"' in (out / "run.json").read_text()


def in_map(out: Path) -> bool:
    return (out / "run.json").exists() and '"verify"' in (out / "run.json").read_text()


def in_align(out: Path) -> bool:
    return (out / "sparse.new").exists()


@pytest.mark.parametrize("moment", [in_extract, in_match, in_verify, in_map, in_align])
def test_killed_in_a_stage(moment, images, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = run(images, out)
    deadline = time.monotonic() + 120
    while not moment(out):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    stages = json.loads((out / "run.json").read_text())["stages"]
    assert "align" not in stages and ("map" in stages) == (moment is in_align)
    done = {"features": 0, "matches": 0}
    with FeatureStore(out / "features.h5", "a") as store:
        done["features"] = len(store.names())
    if (out / "database.db").exists():
        with PairTable(out / "database.db", create=True) as table:
            done["matches"] = len(table.matched())
    if moment is not in_extract:
        assert done["features"] == 8

    (out / "log.txt").unlink(missing_ok=True)
    again = run(images, out)
    assert again.wait(timeout=240) == 0, again.stderr.read()
    kept = dict(re.findall(r"(features|matches): .* (\d+) kept", (out / "log.txt").read_text()))
    assert {stage: int(n) for stage, n in kept.items()} == done
    assert model_bytes(out) == model_bytes(undisturbed)


def test_a_finished_run_does_nothing_again(images, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "sparse").iterdir()}
    tpsfm.reconstruct(images, undisturbed, max_keypoints=1000, threads=1, features="sift")
    assert {path: path.stat().st_mtime_ns for path in (undisturbed / "sparse").iterdir()} == before


def test_only_what_changed_is_done_again(images, undisturbed, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    (folder / "view_000.jpg").unlink()
    (out / "log.txt").unlink()
    tpsfm.reconstruct(folder, out, max_keypoints=1000, threads=1, features="sift")
    log = (out / "log.txt").read_text()
    assert "features: 0 new, 7 kept" in log
    assert "matches: 0 new, 21 kept" in log
    assert "geometry: 0 new, 21 kept" in log
    model = tpsfm.read_model(out / "sparse")
    assert "view_000.jpg" not in model.images and len(model.images) == 7


def test_a_new_photo_matches_and_verifies_its_own_pairs_alone_and_the_map_is_as_if_new(images, undisturbed, tmp_path):
    folder, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(images, folder)
    (folder / "view_003.jpg").rename(tmp_path / "kept.jpg")
    tpsfm.reconstruct(folder, out, max_keypoints=1000, threads=1, features="sift")
    (tmp_path / "kept.jpg").rename(folder / "view_003.jpg")  # in the middle of the sorted names
    (out / "log.txt").unlink()
    tpsfm.reconstruct(folder, out, max_keypoints=1000, threads=1, features="sift")
    log = (out / "log.txt").read_text()
    for line in ("features: 1 new, 7 kept", "matches: 7 new, 21 kept", "geometry: 7 new, 21 kept"):
        assert line in log
    assert model_bytes(out) == model_bytes(undisturbed)


def test_an_older_workspace_is_matched_again_and_says_so(images, undisturbed, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    (out / "matches.h5").write_bytes(b"of an older version")
    with sqlite3.connect(out / "database.db") as database:  # that had no tables of ours
        database.execute("DROP TABLE tpsfm_pairs")
        database.execute("DROP TABLE tpsfm_images")
    database.close()
    tpsfm.reconstruct(images, out, max_keypoints=1000, threads=1, features="sift")
    assert "matches are kept in database.db now and made again" in (out / "log.txt").read_text()
    assert model_bytes(out) == model_bytes(undisturbed)


def test_a_reason_names_no_photo_that_is_gone(courtyard, tmp_path):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for photo in sorted((courtyard / "images").iterdir())[:3]:
        shutil.copy(photo, folder)
    noise = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
    noise = cv2.resize(noise, (480, 360), interpolation=cv2.INTER_CUBIC)
    for name in ("noise.png", "the same noise.png"):
        cv2.imwrite(str(folder / name), noise)
    workspace = tpsfm.reconstruct(folder, out, max_keypoints=1000, threads=1, features="sift")
    assert "the same noise.png" in workspace.manifest["left_out"]["noise.png"]
    (folder / "the same noise.png").unlink()
    workspace = tpsfm.reconstruct(folder, out, max_keypoints=1000, threads=1, features="sift")
    assert "the same noise.png" not in workspace.manifest["left_out"]["noise.png"]


class Killed(Exception):
    pass


class KilledAt(Progress):
    """Stops the mapping where so many photos are registered; notes the counts that it hears of."""

    def __init__(self, count: int) -> None:
        self.count, self.heard = count, []

    @contextmanager
    def bar(self, title, total=None):
        def update(done, total):
            if title == "map":
                self.heard.append(done)
                if done == self.count:
                    raise Killed

        yield update


def test_a_long_mapping_goes_on_from_its_last_whole_snapshot(courtyard, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "MANY", 10)
    options = {"features": "sift", "max_keypoints": 1000, "threads": 1, "align": False}
    with pytest.raises(Killed):
        tpsfm.reconstruct(courtyard / "images", tmp_path, progress=KilledAt(8), **options)
    snapshots = sorted((tmp_path / "snapshots").glob("*/*"))
    assert 1 <= len(snapshots) <= 3
    (snapshots[-1] / "images.bin").write_bytes(b"cut off")
    again = KilledAt(-1)
    workspace = tpsfm.reconstruct(courtyard / "images", tmp_path, progress=again, **options)
    assert min(again.heard) >= 6 and max(again.heard) == 10
    assert not (tmp_path / "snapshots").exists()
    found = read_model(workspace.sparse).images
    metres, degrees = aligned_errors(load_poses(courtyard / "gt.json"), found)
    assert len(found) == 10 and np.median(metres) < 0.05 and np.median(degrees) < 0.2


def test_a_killed_completion_and_adjustment_go_on_step_by_step(courtyard, tmp_path, monkeypatch):
    """Killed after each model that is kept; nothing before it is done again."""
    monkeypatch.setattr(stage, "MANY", 10)
    options = {"features": "sift", "max_keypoints": 1000, "threads": 1}
    whole = tpsfm.reconstruct(courtyard / "images", tmp_path / "whole", **options)
    kept, save = [], snapshots.Checkpoint.save

    def killed(self, model, done):
        save(self, model, done)
        kept.append((self.folder.parent.name, done))
        raise Killed

    monkeypatch.setattr(snapshots.Checkpoint, "save", killed)
    mapped = []
    monkeypatch.setattr(colmap, "reconstruct", lambda *a, original=colmap.reconstruct: mapped.append(a) or original(*a))
    for _ in range(20):
        try:
            workspace = tpsfm.reconstruct(courtyard / "images", tmp_path / "killed", **options)
            break
        except Killed:
            assert len(mapped) == 1
    completing = [done for folder, done in kept if folder != "sparse.new"]
    aligning = [done for folder, done in kept if folder == "sparse.new"]
    assert completing == sorted(set(completing)) and completing[:4] == [1, 2, 3, 4] and len(completing) > 4
    assert aligning and aligning == sorted(set(aligning))
    assert not (workspace.root / "completing").exists() and not (workspace.root / "aligning").exists()
    truth = load_poses(courtyard / "gt.json")
    errors = [aligned_errors(truth, read_model(one.sparse).images)[0].mean() for one in (whole, workspace)]
    assert errors[1] < 1.2 * errors[0]
    assert len(read_model(workspace.sparse).points) == pytest.approx(len(read_model(whole.sparse).points), rel=0.05)

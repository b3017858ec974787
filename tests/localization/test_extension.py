"""A map extended with the photos that were localized in it."""

import shutil
import sqlite3
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

import tpsfm
from tests.support.localizing import HELD, command
from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.localization import localization_errors
from tpsfm.evaluation.poses import load_poses
from tpsfm.features.store import FeatureStore
from tpsfm.localization.extension import Extension
from tpsfm.progress import Progress


def test_extending_leaves_the_map_alone(held_out, held_out_map, tmp_path):
    before = {path: path.read_bytes() for path in (held_out / "map").rglob("*") if path.is_file()}
    status, said = command(
        "localize", "--query", held_out / "queries", "--map", held_out / "map", "--out", tmp_path, "--add"
    )
    assert status == 0, said
    assert {path: path.read_bytes() for path in (held_out / "map").rglob("*") if path.is_file()} == before
    old, new = read_model(held_out / "map" / "sparse"), read_model(tmp_path / "map" / "sparse")
    added = [f"added/{name}" for name in HELD]
    assert sorted(set(new.images) - set(old.images)) == added and set(old.images) < set(new.images)
    assert len(new.points) > len(old.points)
    assert all(new.images[name].observations > 100 for name in added)
    for name in old.images:  # the same frame
        assert np.linalg.norm(new.images[name].center - old.images[name].center) < 0.05
    truth = load_poses(held_out / "gt.json")
    metres, _ = localization_errors(truth, old.images, {name: new.images[f"added/{name}"] for name in HELD})
    assert max(metres) < 0.05
    links = [path for path in (tmp_path / "map/images").rglob("*.jpg") if path.is_symlink()]
    assert len(links) == len(new.images) and not any(path.readlink().is_absolute() for path in links)
    again = tpsfm.Map(tmp_path / "map").localize(held_out / "queries" / HELD[0])
    assert again.status == "localized" and again.retrieved[0] == added[0]
    with pytest.raises(TpsfmError, match="is the map itself"):
        tpsfm.localize(held_out / "queries", tmp_path / "map", tmp_path, add=True)


def test_an_extension_replaces_only_an_earlier_one(held_out, tmp_path):
    shutil.copytree(held_out / "map", tmp_path / "map")
    with pytest.raises(TpsfmError, match="another map"):
        tpsfm.localize(held_out / "queries", held_out / "map", tmp_path, add=True)
    assert (tmp_path / "map" / "features.h5").read_bytes() == (held_out / "map" / "features.h5").read_bytes()

    loaded = tpsfm.Map(held_out / "map")
    with FeatureStore(tmp_path / "none.h5", "a") as nothing:
        with Extension.open(loaded, tmp_path / "new") as first:
            with pytest.raises(TpsfmError, match="in use"), Extension.open(loaded, tmp_path / "new"):
                pass
            assert first.build({}, nothing) is None
        assert not (tmp_path / "new").exists()

        (tmp_path / "empty").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "empty")
        with Extension.open(loaded, tmp_path / "link") as empty:
            assert empty.build({}, nothing) is None
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").touch()
    with pytest.raises(TpsfmError, match="name a new folder"), Extension.open(loaded, tmp_path / "foreign"):
        pass


def test_interrupted_it_lets_go_of_its_workspace(held_out, held_out_map, tmp_path):
    """As in a notebook, where the traceback of the interrupt lives on, and what it refers to with it."""

    class Impatient(Progress):
        @contextmanager
        def bar(self, label, total=None):
            raise KeyboardInterrupt
            yield

    with pytest.raises(KeyboardInterrupt) as stopped:
        tpsfm.localize(held_out / "queries", held_out_map, tmp_path, add=True, progress=Impatient())
    assert stopped.tb is not None
    assert not (tmp_path / "map").exists()
    assert [result.status for result in tpsfm.localize(held_out / "queries", held_out_map, tmp_path, add=True)] == [
        "localized",
        "localized",
    ]
    assert (tmp_path / "map" / "sparse" / "images.bin").is_file()


def test_the_database_of_another_map_is_told(held_out, tmp_path):
    shutil.copytree(held_out / "map", tmp_path / "map")
    with sqlite3.connect(tmp_path / "map/database.db") as database:
        database.execute("UPDATE cameras SET width = width + 1")
    database.close()
    with pytest.raises(TpsfmError, match="is not that of the map, or damaged"):
        tpsfm.localize(held_out / "queries", tmp_path / "map", tmp_path / "results", add=True)
    assert (tmp_path / "results/poses.txt").is_file() and not (tmp_path / "results/map").exists()


def test_a_map_whose_photos_share_a_camera_that_exif_does_not_tell(held_out, tmp_path):
    for folder in ("db", "queries"):
        (tmp_path / folder).mkdir()
        for photo in (held_out / folder).iterdir():
            cv2.imwrite(str(tmp_path / folder / photo.name), cv2.imread(str(photo)))  # without EXIF
    tpsfm.reconstruct(tmp_path / "db", tmp_path / "map", features="sift", max_keypoints=1500, threads=1, align=False)
    assert len(read_model(tmp_path / "map" / "sparse").cameras) == 1
    tpsfm.localize(tmp_path / "queries", tmp_path / "map", tmp_path / "out", add=True)
    assert len(read_model(tmp_path / "out/map/sparse").images) == 10

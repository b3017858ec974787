"""COLMAP's database: what is written into it, verified in it, and which photos share a camera."""

import os
import sqlite3
import zlib  # noqa: F401  before pycolmap
from contextlib import closing
from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from tests.support.synthesized import INFO
from tpsfm import colmap
from tpsfm.errors import TpsfmError


def test_verification_keeps_the_true_matches(synthetic, synthetic_map):
    _, inliers, _, _ = synthetic_map
    assert set(inliers) == {(a, b) for a, b, _ in synthetic.matches}
    for first, second, matches in synthetic.matches:
        assert 0.7 * len(matches) < inliers[first, second] < 0.9 * len(matches)
    assert colmap.verified_inliers(synthetic_map[0] / "database.db") == inliers


def test_database_adds_half_a_pixel(synthetic, tmp_path):
    infos = {"b.jpg": replace(INFO, focal_px=900.0, gps=(55.7, 13.2, float("nan"))), "a b.jpg": INFO}
    points = {"b.jpg": np.array([[0, 0], [10.25, 3]], np.float32), "a b.jpg": np.zeros((0, 2), np.float32)}
    path = tmp_path / "database.db"
    with colmap.PairTable(path, create=True) as table:
        assert table.retain(infos, {("a b.jpg", "b.jpg"): "key"}) == [("a b.jpg", "b.jpg")]
        table.write(("a b.jpg", "b.jpg"), np.zeros((0, 2), np.uint32), "key")
        assert table.retain(infos, {("a b.jpg", "b.jpg"): "key"}) == []
    colmap.write_images(path, infos, {"a b.jpg": 0, "b.jpg": 1}, points.__getitem__, "OPENCV")
    with pycolmap.Database.open(path) as db:
        assert [(i.image_id, i.name) for i in db.read_all_images()] == [(1, "a b.jpg"), (2, "b.jpg")]
        np.testing.assert_array_equal(db.read_keypoints(2)[:, :2], [[0.5, 0.5], [10.75, 3.5]])
        unknown, known = db.read_all_cameras()
        assert known.model.name == "OPENCV"
        assert (known.focal_length_x, known.has_prior_focal_length) == (900, True)
        assert (unknown.focal_length_x, unknown.has_prior_focal_length) == (pytest.approx(1.2 * 1024), False)
        assert not db.read_all_pose_priors()  # COLMAP's mappers would not use them


def test_verification_depends_on_no_other_pair(synthetic, tmp_path):
    synthetic.database(tmp_path / "all.db")
    _, inliers = colmap.verify_matches(tmp_path / "all.db", threads=2)
    assert colmap.verify_matches(tmp_path / "all.db", seed=9, threads=1)[0] == len(inliers)
    progress = []
    again = colmap.verify_matches(tmp_path / "all.db", threads=1, progress=lambda *at: progress.append(at))
    assert again == (len(inliers), inliers)
    assert progress == [(i, len(inliers)) for i in range(len(inliers) + 1)]


def test_interrupted_verification_goes_on(synthetic, synthetic_map, tmp_path):
    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    path = tmp_path / "database.db"
    synthetic.database(path)
    with pytest.raises(KeyboardInterrupt):
        colmap.verify_matches(path, progress=interrupt)
    assert sum(count > 0 for count in colmap.verified_inliers(path).values()) == 3
    progress = []
    assert colmap.verify_matches(path, progress=lambda *at: progress.append(at)) == (25, synthetic_map[1])
    assert progress[0] == (3, 28)
    assert colmap.verify_matches(path)[0] == 0


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_bad_database(tmp_path, damage):
    path = tmp_path / "database.db"
    if damage == "garbage":
        path.write_bytes(os.urandom(3000))
    for call in (
        lambda: colmap.verify_matches(path),
        lambda: colmap.verified_inliers(path),
        lambda: colmap.reconstruct(path, tmp_path / "sparse"),
        lambda: colmap.reconstruct(path, tmp_path / "sparse", "global"),
        lambda: colmap.thin_matches(path, tmp_path / "thin.db"),
    ):
        with pytest.raises(TpsfmError, match=r"database\.db"):
            call()
    assert not (tmp_path / "sparse").exists()


def test_a_new_database_replaces_a_damaged_one(synthetic, tmp_path):
    path = tmp_path / "database.db"
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"database.db{suffix}").write_bytes(os.urandom(3000))
    synthetic.database(path)
    assert len(colmap.verify_matches(path)[1]) == len(synthetic.matches)


def test_camera_groups():
    phone = replace(INFO, make="A", model="B", focal_px=800.2)
    infos = {
        "phone/1.jpg": phone,
        "phone/2.jpg": phone,
        "phone/zoomed.jpg": replace(phone, focal_px=1600.0),
        "phone/upright.jpg": replace(phone, width=768, height=1024),
        "other/3.jpg": phone,
        "video/1.png": INFO,
        "video/2.png": INFO,
        "web/1.jpg": INFO,
        "web/2.jpg": INFO,
        "web/3.jpg": replace(INFO, width=800),
    }

    def groups(mode, infos=infos):
        camera_of = colmap.group_cameras(infos, mode)
        members = {}
        for name in sorted(infos):
            members.setdefault(camera_of[name], []).append(name)
        assert list(members) == list(range(len(members)))
        return list(members.values())

    assert groups("auto") == [
        ["other/3.jpg", "phone/1.jpg", "phone/2.jpg"],
        ["phone/upright.jpg"],
        ["phone/zoomed.jpg"],
        ["video/1.png"],
        ["video/2.png"],
        ["web/1.jpg"],
        ["web/2.jpg"],
        ["web/3.jpg"],
    ]
    assert groups("per-image") == [[name] for name in sorted(infos)]
    same = {name: INFO for name in ("a/1", "a/2", "b/1")}
    assert groups("per-folder", same) == [["a/1", "a/2"], ["b/1"]]
    assert groups("single", same) == [["a/1", "a/2", "b/1"]]
    with pytest.raises(TpsfmError, match=r"can.t be: the photos are .*web/3\.jpg"):
        groups("per-folder", {name: infos[name] for name in infos if name.startswith("web")})
    with pytest.raises(TpsfmError, match="no camera mode"):
        groups("sometimes")
    with pytest.raises(TpsfmError, match="no camera model"):
        colmap.write_images("x.db", {"a": INFO}, {"a": 0}, None, "LENS")


def test_a_thousand_random_matches_are_no_geometry(tmp_path):
    """COLMAP alone finds 33 that agree, in half a second; a true pair with as many outliers as inliers stays."""
    rng = np.random.default_rng(0)
    names, random = ["a.jpg", "b.jpg", "c.jpg"], rng.uniform((0, 0), (1024, 768), (1000, 2))
    seen = rng.uniform((-4, -3, 4), (4, 3, 12), (1000, 3))
    views = [800 * x[:, :2] / x[:, 2:] + (512, 384) for x in (seen, seen + np.array([1.0, 0.2, 0.3]))]
    views[1][::2] = random[::2]
    points = dict(zip(names, [*views, random], strict=True))
    keys = {("a.jpg", "b.jpg"): "key", ("a.jpg", "c.jpg"): "key"}
    with colmap.PairTable(tmp_path / "database.db", create=True) as table:
        for pair in table.retain(names, keys):
            table.write(pair, np.stack([np.arange(1000)] * 2, 1), "key")
    infos = dict.fromkeys(names, INFO)
    colmap.write_images(tmp_path / "database.db", infos, colmap.group_cameras(infos, "single"), points.__getitem__)
    _, inliers = colmap.verify_matches(tmp_path / "database.db", threads=1)
    assert inliers["a.jpg", "c.jpg"] == 0 and inliers["a.jpg", "b.jpg"] > 450


def test_images_that_are_gone_from_the_database_are_written_again(tmp_path):
    path, infos = tmp_path / "database.db", {"a.jpg": INFO, "b.jpg": INFO}
    with colmap.PairTable(path, create=True) as table:
        table.retain(infos, {("a.jpg", "b.jpg"): "key"})
    points = {"a.jpg": np.ones((3, 2), np.float32), "b.jpg": np.zeros((0, 2), np.float32)}
    asked = []

    def keypoints(name: str) -> np.ndarray:
        asked.append(name)
        return points[name]

    for damage in ("DELETE FROM cameras", "DELETE FROM keypoints WHERE image_id = 1", "", "DELETE FROM images", ""):
        with closing(sqlite3.connect(path)) as database:
            database.execute(damage)
            database.commit()
        asked.clear()
        colmap.write_images(path, infos, {"a.jpg": 0, "b.jpg": 0}, keypoints, key="same")
        assert bool(asked) == bool(damage)

"""Cameras found by a part of the matches, and the map completed by all of them."""

import shutil

import numpy as np
import pytest

from tests.support.synthesized import Scene
from tpsfm import colmap
from tpsfm.colmap import read_model, read_observations
from tpsfm.colmap.database import open_database
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import pose_errors


def inliers(database) -> dict[int, set[tuple[int, int]]]:
    """The verified matches by pair."""
    with open_database(database) as db:
        ids, geometries = db.read_two_view_geometries()
    return {
        key: set(map(tuple, geometry.inlier_matches.tolist())) for key, geometry in zip(ids, geometries, strict=True)
    }


def test_each_pair_keeps_its_share_and_tracks_stay_together(synthetic_map, tmp_path):
    database = synthetic_map[0] / "database.db"
    colmap.thin_matches(database, tmp_path / "thin.db", most=40)
    before, after = inliers(database), inliers(tmp_path / "thin.db")
    assert before.keys() == after.keys()
    for pair, kept in after.items():
        assert kept <= before[pair]
        assert min(40, len(before[pair])) <= len(kept) < max(150, 1 + min(40, len(before[pair])))
    assert sum(map(len, after.values())) < sum(map(len, before.values())) / 2
    assert inliers(database) == before


def test_a_pair_of_few_matches_keeps_them_all(synthetic_map, tmp_path):
    database = synthetic_map[0] / "database.db"
    colmap.thin_matches(database, tmp_path / "thin.db", most=10_000)
    assert inliers(tmp_path / "thin.db") == inliers(database)


def test_the_completed_map_is_that_of_all_matches(synthetic, synthetic_map, tmp_path):
    database = synthetic_map[0] / "database.db"
    colmap.thin_matches(database, tmp_path / "thin.db", most=40)
    (folder,), _ = colmap.reconstruct(tmp_path / "thin.db", tmp_path / "sparse", threads=1)
    thin = read_model(folder)
    assert colmap.complete_model(folder, database, threads=1) == []
    whole, complete = read_model(synthetic_map[3][0]), read_model(folder)
    assert len(thin.points) < len(whole.points) / 2
    assert len(complete.points) == pytest.approx(len(whole.points), rel=0.02)
    assert complete.track_lengths.sum() == pytest.approx(whole.track_lengths.sum(), rel=0.02)
    errors = [pose_errors(synthetic.truth, model.images).mean() for model in (thin, whole, complete)]
    assert errors[2] < errors[0] and errors[2] < 1.2 * errors[1]


def test_a_track_has_one_keypoint_a_photo(tmp_path):
    """In one photo each keypoint has another beside it, with the same matches."""
    scene, database = Scene(outliers=0), tmp_path / "database.db"
    last = sorted(scene.truth)[-1]
    count = len(scene.points[last])
    beside = np.random.default_rng(0).choice([-1.5, 1.5], (count, 2)).astype(np.float32)
    scene.points[last] = np.vstack([scene.points[last], scene.points[last] + beside])
    scene.matches = [
        (a, b, np.vstack([rows, rows + np.uint32([0, count])]) if b == last else rows) for a, b, rows in scene.matches
    ]
    scene.database(database)
    colmap.verify_matches(database, threads=1)
    (folder,), _ = colmap.reconstruct(database, tmp_path / "sparse", threads=1)
    colmap.complete_model(folder, database, threads=1)
    _, points = read_observations(folder)[last]
    shown = points[points >= 0]
    assert len(np.unique(shown)) == len(shown) > 0.8 * count
    assert np.count_nonzero(points[:count] >= 0) > 0.95 * len(shown)  # those that are less off


def test_photos_that_a_part_of_the_matches_leaves_out_are_registered(synthetic, synthetic_map, tmp_path):
    database, names = synthetic_map[0] / "database.db", sorted(synthetic.truth)
    assert colmap.reconstruct_part(database, tmp_path / "part", names[:6], threads=1)
    other = shutil.copytree(tmp_path / "part", tmp_path / "other")
    assert colmap.complete_model(tmp_path / "part", database, threads=1) == names[6:]
    model = read_model(tmp_path / "part")
    assert sorted(model.images) == names and pose_errors(synthetic.truth, model.images).max() < 0.5
    assert colmap.complete_model(other, database, elsewhere=names[6:7], threads=1) == names[7:]


def test_a_model_that_can_not_be_written_is_told(synthetic_map, tmp_path):
    folder = shutil.copytree(synthetic_map[3][0], tmp_path / "sparse")
    (folder / "images.bin").unlink()
    with pytest.raises(TpsfmError, match="sparse"):
        colmap.complete_model(folder, synthetic_map[0] / "database.db", threads=1)

"""The benchmark of maps in metres: its positions and check points are where they say."""

import numpy as np
import pytest

from pipelines.georeference import LUND, SIZE, strip, write_points, write_positions
from tpsfm.colmap.geodesy import to_enu
from tpsfm.demo.dataset import write_truth
from tpsfm.evaluation.poses import load_poses
from tpsfm.geometry import Camera, Model
from tpsfm.photos.positions import read_positions
from tpsfm.reconstruction.ground_control import find_in_map, read_ground_points


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    path = tmp_path_factory.mktemp("strip") / "gt.json"
    views = strip(12)
    write_truth(path, views)
    return load_poses(path), views


def test_positions_have_the_noise_that_they_tell(truth, tmp_path):
    poses, _ = truth
    known = np.array([pose.center for pose in poses.values()])
    given = read_positions(write_positions(tmp_path / "gps.csv", poses, 0.03, 0))
    off = to_enu(np.array([given[name].place for name in poses]), LUND) - known
    assert 0.01 < off.std() < 0.06 and given["000.jpg"].deviation == (0.03, 0.03, 0.045)


def test_check_points_are_where_the_photos_show_them(truth, tmp_path):
    poses, views = truth
    K = views["000.jpg"].K
    camera = Camera("PINHOLE", *SIZE, [K[0, 0], K[1, 1], K[0, 2], K[1, 2]])
    path = write_points(tmp_path / "check.txt", poses, poses, 25)
    points = read_ground_points(path, list(poses))
    found = find_in_map(points, Model.of_cameras({poses["000.jpg"].camera_id: camera}, poses), path)
    assert len(found) > 15
    for point in points:
        if point.name in found:
            assert to_enu(np.array([point.place]), LUND)[0] == pytest.approx(found[point.name].place, abs=0.01)

"""Pose errors with known answers."""

import json

import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import aligned_errors, load_poses, pose_auc, pose_errors
from tpsfm.geometry import Pose


def turn(degrees, axis=2):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    a, b = [i for i in range(3) if i != axis]
    rotation = np.eye(3)
    rotation[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
    return rotation


def pose(rotation, center):
    return Pose(0, rotation, -rotation @ np.asarray(center, float))


@pytest.fixture
def truth():
    rng = np.random.default_rng(0)
    return {
        f"{i}.jpg": pose(turn(20 * i, 1) @ turn(7 * i, 0), rng.normal(size=3) + np.array([3 * i, 0, 0]))
        for i in range(5)
    }


def test_a_similarity_of_the_world_is_no_error(truth):
    world, shift, scale = turn(50) @ turn(30, 0), np.array([5.0, -2, 1]), 3.7
    moved = {name: pose(p.rotation @ world.T, scale * (world @ p.center) + shift) for name, p in truth.items()}
    errors = pose_errors(truth, moved)
    assert errors.shape == (10,)
    assert errors.max() < 1e-9
    np.testing.assert_allclose(pose_auc(errors, [1, 5]), 1)


def test_a_turned_camera_and_a_missing_one(truth):
    estimated = dict(truth)
    turned = truth["1.jpg"]
    estimated["1.jpg"] = pose(turn(2.0) @ turned.rotation, turned.center)
    del estimated["4.jpg"]
    errors = pose_errors(truth, estimated)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    for (i, j), error in zip(pairs, errors, strict=True):
        if 4 in (i, j):
            assert error == np.inf
        elif 1 in (i, j):
            np.testing.assert_allclose(error, 2, atol=0.001)  # the direction turns by no more than the camera
        else:
            assert error < 1e-9


def test_a_moved_camera_changes_the_direction():
    truth = {"a": pose(np.eye(3), [0, 0, 0]), "b": pose(np.eye(3), [1, 0, 0])}
    moved = {"a": truth["a"], "b": pose(np.eye(3), [1, 1, 0])}
    np.testing.assert_allclose(pose_errors(truth, moved), [45])
    opposite = {"a": truth["a"], "b": pose(np.eye(3), [-1, 0, 0])}
    np.testing.assert_allclose(pose_errors(truth, opposite), [180])


def test_auc_is_the_exact_area():
    assert pose_auc(np.array([0.0, np.inf]), [5]) == [0.5]
    np.testing.assert_allclose(pose_auc(np.array([1.0, 2.0, 7.0]), [5]), [(4 + 3) / 15])
    errors = np.random.default_rng(0).exponential(3, 200)
    grid = (np.arange(50_000) + 0.5) / 50_000 * 5
    numeric = np.mean(np.searchsorted(np.sort(errors), grid, side="right") / len(errors))
    np.testing.assert_allclose(pose_auc(errors, [5]), [numeric], atol=1e-4)
    assert pose_auc(np.array([]), [1, 5]) == [0, 0]


def test_known_poses_file(tmp_path, truth):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({n: {"R": p.rotation.tolist(), "C": p.center.tolist()} for n, p in truth.items()}))
    assert pose_errors(load_poses(path), truth).max() < 1e-6
    with pytest.raises(TpsfmError, match=r"nowhere\.json"):
        load_poses(tmp_path / "nowhere.json")
    for content in ["{", "[1]", '{"a": {"R": [1], "C": [0, 0, 0]}}', '{"a": {}}']:
        path.write_text(content)
        with pytest.raises(TpsfmError, match=r"gt\.json"):
            load_poses(path)


def test_a_moved_and_scaled_copy_has_no_aligned_error():
    rng = np.random.default_rng(3)
    quarter = turn(90)
    truth, moved = {}, {}
    for i in range(4):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rotation = q * np.sign(np.linalg.det(q))
        center = rng.normal(size=3)
        truth[str(i)] = Pose(0, rotation, -rotation @ center)
        other = 3 * quarter @ center + [1, 2, 3]
        moved[str(i)] = Pose(0, rotation @ quarter.T, -rotation @ quarter.T @ other)
    distance, angle = aligned_errors(truth, moved)
    np.testing.assert_allclose(distance, 0, atol=1e-12)
    np.testing.assert_allclose(angle, 0, atol=1e-6)


def test_aligned_errors_tell_a_turned_camera():
    poses = {str(i): Pose(0, np.eye(3), -np.array(c, float)) for i, c in enumerate([(0, 0, 0), (1, 0, 0), (0, 2, 0)])}
    estimated = poses | {"0": Pose(0, turn(10), np.zeros(3))}
    distance, degrees = aligned_errors(poses, estimated)
    np.testing.assert_allclose(distance, 0, atol=1e-12)
    np.testing.assert_allclose(degrees, [10, 0, 0], atol=1e-9)

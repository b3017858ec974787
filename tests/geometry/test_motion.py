"""Rotations and similarities."""

import cv2
import numpy as np
import pytest

from tpsfm.geometry import Sim3, quaternion, rotation_matrix


def test_quaternions():
    for turn in ([0, 0, 0], [0.3, -0.2, 0.9], [0, np.pi - 1e-3, 0]):
        angle = np.linalg.norm(turn)
        axis = np.array(turn) / max(angle, 1e-12)
        expected = [np.cos(angle / 2), *(np.sin(angle / 2) * axis)]
        np.testing.assert_allclose(quaternion(cv2.Rodrigues(np.array(turn, float))[0]), expected, atol=1e-9)
        np.testing.assert_allclose(rotation_matrix(expected), cv2.Rodrigues(np.array(turn, float))[0], atol=1e-12)


def test_a_similarity_is_found_again_from_points():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3))
    onto = Sim3(2.5, rotation_matrix([0.3, -0.2, 0.9, 0.1]), np.array([1.0, -2.0, 3.0]))
    found = Sim3.fit(points, onto(points))
    assert found.scale == pytest.approx(2.5)
    np.testing.assert_allclose(found.rotation, onto.rotation, atol=1e-12)
    np.testing.assert_allclose(found(points[0]), onto(points)[0], atol=1e-12)
    rigid = Sim3.fit(points, onto(points), scaled=False)
    assert rigid.scale == 1
    np.testing.assert_allclose(rigid.rotation, onto.rotation, atol=1e-12)
    np.testing.assert_allclose(rigid(points).mean(0), onto(points).mean(0), atol=1e-12)

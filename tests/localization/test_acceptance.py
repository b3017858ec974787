"""How sure a pose is, against repeated measurements, and when it is not believed."""

import cv2
import numpy as np
import pytest

from tpsfm import colmap
from tpsfm.geometry import Camera, Pose
from tpsfm.localization.acceptance import (
    COMMON_ROTATION,
    COVARIANCE_INFLATION,
    inflate_covariance,
    occupied_cells,
    rejection_reason,
    uncertainty,
)


@pytest.mark.parametrize("refine", [False, True])
def test_the_covariance_is_that_of_repeated_measurements(refine):
    """Poses from 150 draws of the same noise: their spread, and how often the truth is inside."""
    rng = np.random.default_rng(0)
    camera = Camera("SIMPLE_RADIAL", 1000, 800, [900, 499.5, 399.5, 0.0])
    points = rng.uniform([-4, -3, 4], [4, 3, 12], (150, 3))
    pose = Pose(0, cv2.Rodrigues(np.array([0.1, -0.2, 0.3]))[0], np.array([0.3, -0.2, 0.5]))
    seen = points @ pose.rotation.T + pose.translation
    pixels = 900 * seen[:, :2] / seen[:, 2:] + (499.5, 399.5)
    motions, reported, inside = [], [], []
    for _ in range(150):
        found = colmap.absolute_pose(pixels + rng.normal(0, 1, pixels.shape), points, camera, 6.0, refine)
        turn = cv2.Rodrigues(found.pose.rotation @ pose.rotation.T)[0][:, 0]
        motions.append([*turn, *(found.pose.translation - pose.translation)])
        reported.append(np.sqrt(np.diag(found.covariance)))
        position, rotation = uncertainty(found.pose, found.covariance)
        inside.append(
            [np.linalg.norm(found.pose.center - pose.center) < position, np.degrees(np.linalg.norm(turn)) < rotation]
        )
        assert found.inliers.all()
        assert (found.camera.params[0] != 900) == refine
    ratio = np.std(motions, axis=0) / np.mean(reported, axis=0)
    assert ((ratio > 0.8) & (ratio < 1.2)).all()
    assert (np.mean(inside, axis=0) > 0.9).all() and (np.mean(inside, axis=0) < 0.995).all()


def test_what_the_map_has_wrong_turns_the_camera_in_its_place():
    pose = Pose(0, cv2.Rodrigues(np.array([0.3, 0.1, -0.2]))[0], np.array([1.0, -2.0, 3.0]))
    position, rotation = uncertainty(pose, inflate_covariance(pose, np.zeros((6, 6)), np.radians(1)))
    assert position < 1e-6
    assert rotation == pytest.approx(
        COMMON_ROTATION * np.sqrt(7.815), rel=0.02
    )  # 95 % of chi-squared, 3 degrees of freedom
    alone = uncertainty(pose, np.eye(6))
    assert uncertainty(pose, inflate_covariance(pose, np.eye(6), 0.0)) == pytest.approx(
        np.sqrt(COVARIANCE_INFLATION) * np.array(alone)
    )


def test_what_makes_a_pose_doubtful():
    assert not rejection_reason(inliers=200, matches=1000, occupied=60)
    assert "10 of 100" in rejection_reason(inliers=10, matches=100, occupied=60)
    assert "small part" in rejection_reason(inliers=200, matches=1000, occupied=3)
    assert "%" in rejection_reason(inliers=60, matches=8000, occupied=60)
    camera = Camera("PINHOLE", 1200, 600, [1, 1, 1, 1])
    keypoints = np.array([[0, 0], [99, 99], [101, 99], [1199, 599]])
    assert occupied_cells(keypoints, camera) == 3

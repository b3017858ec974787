"""Bundle adjustment of COLMAP's models: some of many observations find the cameras, the other points follow."""

import copy
import zlib  # noqa: F401  before pycolmap

import numpy as np
import pycolmap
import pytest

from tpsfm.colmap import adjustment
from tpsfm.colmap.adjustment import adjust_model, adjust_points


def synthesized(images: int, points: int) -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(0)
    options = {"num_rigs": 1, "num_frames_per_rig": images, "num_points3D": points, "track_length": -1}
    return pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(options))


def with_noise(truth: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """The scene with noise on keypoints, points and poses."""
    rng = np.random.default_rng(0)
    model = copy.deepcopy(truth)
    for image in model.images.values():
        for point in image.points2D:
            point.xy = point.xy + rng.normal(0, 0.3, 2)
    for frame in model.frames.values():
        pose = frame.rig_from_world
        frame.rig_from_world = pycolmap.Rigid3d(pose.rotation, pose.translation + rng.normal(0, 0.02, 3))
    for point in model.points3D.values():
        point.xyz = point.xyz + rng.normal(0, 0.02, 3)
    return model


@pytest.fixture(scope="module")
def truth() -> pycolmap.Reconstruction:
    return synthesized(10, 600)


@pytest.fixture
def disturbed(truth: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    return with_noise(truth)


def error(model: pycolmap.Reconstruction) -> float:
    model.update_point_3d_errors()
    return model.compute_mean_reprojection_error()


def poses(model: pycolmap.Reconstruction) -> np.ndarray:
    return np.stack([model.image(i).cam_from_world().matrix() for i in sorted(model.reg_image_ids())])


@pytest.mark.parametrize("most", [10**7, 2000])  # of some 6,000
def test_poses_and_all_points_are_found(disturbed, monkeypatch, most):
    monkeypatch.setattr(adjustment, "_MOST", most)
    monkeypatch.setattr(adjustment, "_AT_ONCE", 1000)
    points = disturbed.num_points3D()
    assert error(disturbed) > 3
    gain = adjust_model(disturbed, 1.0, tolerance=1e-6)
    assert gain > 1000 and disturbed.num_points3D() == points
    assert error(disturbed) < 0.4  # 0.3 px of noise along each axis


def test_an_iterative_solver_finds_the_same(monkeypatch):
    direct = with_noise(synthesized(60, 150))  # up to 50 images COLMAP takes a dense solver
    iterative = copy.deepcopy(direct)
    monkeypatch.setattr(adjustment, "_LONG", 1e9)
    adjust_model(direct, 1.0, tolerance=1e-8)
    monkeypatch.setattr(adjustment, "_LONG", 12.0)
    monkeypatch.setattr(adjustment, "_FEW", 55)
    adjust_model(iterative, 1.0, tolerance=1e-8)
    assert error(iterative) == pytest.approx(error(direct), abs=1e-3) and error(direct) < 0.4


def test_points_alone_leave_cameras_and_poses(disturbed, truth, monkeypatch):
    monkeypatch.setattr(adjustment, "_AT_ONCE", 1000)
    for frame_id, frame in truth.frames.items():
        disturbed.frame(frame_id).rig_from_world = frame.rig_from_world
    before, cameras = poses(disturbed), [camera.params.copy() for camera in disturbed.cameras.values()]
    adjust_points(disturbed)
    assert np.array_equal(poses(disturbed), before)
    assert all(np.array_equal(c.params, p) for c, p in zip(disturbed.cameras.values(), cameras, strict=True))
    assert error(disturbed) < 0.4

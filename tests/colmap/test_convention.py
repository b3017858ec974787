"""COLMAP's half pixel, there and back."""

import subprocess
import sys

import numpy as np
import pytest

from tpsfm.colmap.convention import camera_from_colmap, colmap_params, from_colmap, to_colmap
from tpsfm.geometry import CAMERA_MODELS, Camera


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_cameras_come_back_to_the_last_bit(model):
    focals, size = CAMERA_MODELS[model]
    rng = np.random.default_rng(0)
    for _ in range(1000):
        params = rng.uniform(0.25, 10_000, size).tolist()
        camera = camera_from_colmap(model, 640, 480, params)
        assert colmap_params(camera) == params
        np.testing.assert_array_equal(camera.matrix[:2, 2], np.array(params[focals : focals + 2]) - 0.5)


def test_the_middle_of_an_image():
    assert camera_from_colmap("SIMPLE_PINHOLE", 4, 2, [1, 2, 1]) == Camera("SIMPLE_PINHOLE", 4, 2, [1, 1.5, 0.5])


def test_keypoints_keep_their_type():
    keypoints = np.array([[0, 0], [10.25, 3]], np.float32)
    moved = to_colmap(keypoints)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, [[0.5, 0.5], [10.75, 3.5]])
    np.testing.assert_array_equal(from_colmap(moved), keypoints)


def test_the_package_loads_no_pycolmap_until_it_is_needed():
    code = (
        "import sys; from tpsfm import colmap; colmap.read_model, colmap.group_cameras;"
        "assert 'pycolmap' not in sys.modules; colmap.verify_matches; assert 'pycolmap' in sys.modules;"
        "assert all(getattr(colmap, name) for name in dir(colmap))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

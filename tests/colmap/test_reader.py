"""The plain model reader against pycolmap's own."""

import zlib  # noqa: F401  before pycolmap

import numpy as np
import pycolmap
import pytest

from tpsfm.colmap import colmap_params, read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import CAMERA_MODELS


def test_camera_table_agrees_with_colmap():
    for model_id, (name, (focals, size)) in enumerate(CAMERA_MODELS.items()):
        camera = pycolmap.Camera.create_from_model_id(1, pycolmap.CameraModelId(model_id), 500.0, 640, 480)
        assert camera.model.name == name
        assert len(camera.focal_length_idxs()) == focals
        assert len(camera.params) == size


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pycolmap.set_random_seed(0)
    options = {"num_rigs": 2, "num_frames_per_rig": 4, "num_points3D": 60, "track_length": 5}
    reconstruction = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(options))
    pycolmap.synthesize_noise({"point2D_stddev": 0.5}, reconstruction)
    reconstruction.update_point_3d_errors()
    reconstruction.write(folder)
    return folder, reconstruction


def test_reads_what_pycolmap_wrote(scene):
    folder, reconstruction = scene
    model = read_model(folder)

    assert list(model.images) == sorted(image.name for image in reconstruction.images.values())
    for image in reconstruction.images.values():
        pose = model.images[image.name]
        np.testing.assert_allclose(pose.rotation, image.cam_from_world().rotation.matrix(), atol=1e-12)
        np.testing.assert_allclose(pose.translation, image.cam_from_world().translation)
        np.testing.assert_allclose(pose.center, image.projection_center())
        assert pose.camera_id == image.camera_id
        assert pose.observations == image.num_points3D

    for camera_id, camera in reconstruction.cameras.items():
        mine = model.cameras[camera_id]
        assert (mine.model, mine.width, mine.height) == (camera.model.name, camera.width, camera.height)
        np.testing.assert_array_equal(colmap_params(mine), camera.params)
        principal = [camera.principal_point_x - 0.5, camera.principal_point_y - 0.5]
        np.testing.assert_allclose(mine.matrix[:2, 2], principal)

    points = sorted(reconstruction.points3D.items())
    order = np.lexsort(model.points.T)
    expected = np.array([point.xyz for _, point in points])
    theirs = np.lexsort(expected.T)
    np.testing.assert_array_equal(model.points[order], expected[theirs])
    errors = np.array([point.error for _, point in points])
    lengths = np.array([point.track.length() for _, point in points])
    np.testing.assert_allclose(model.errors[order], errors[theirs], rtol=1e-6)
    np.testing.assert_array_equal(model.track_lengths[order], lengths[theirs])
    assert (model.colors[order] == np.array([point.color for _, point in points])[theirs]).all()


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_damage_is_told_in_one_line(scene, tmp_path, name):
    for file in scene[0].iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[:-5] if file.name == name else data)
    with pytest.raises(TpsfmError, match=name):
        read_model(tmp_path)
    (tmp_path / name).write_bytes(bytes([1, *bytes(7), *b"a" * 64, *b"x\0"]) + b"\xff" * 500)  # a length beyond all
    with pytest.raises(TpsfmError, match=name):
        read_model(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(TpsfmError, match="missing"):
        read_model(tmp_path)

"""Photos without EXIF share a camera where their map agrees, and none where it doesn't."""

import shutil
import zlib  # noqa: F401  before pycolmap
from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from tests.support.synthesized import INFO, Scene
from tpsfm import colmap
from tpsfm.colmap import read_model, sharing
from tpsfm.colmap.cameras import possible_groups
from tpsfm.evaluation.poses import pose_errors
from tpsfm.photos import Photo


def free_map(scene, root):
    """The map of a scene whose photos have a camera each, of which nothing is known."""
    database = root / "database.db"
    scene.database(database)
    colmap.write_images(database, scene.infos, colmap.group_cameras(scene.infos), scene.points.__getitem__)
    colmap.verify_matches(database, threads=1)
    (folder,), _ = colmap.reconstruct(database, root / "sparse", "incremental", threads=1)
    return folder


def focals(folder, names):
    model = read_model(folder)
    return {name: model.cameras[model.images[name].camera_id].params[0] for name in names}


def test_photos_of_one_camera_share_it_and_their_poses_get_better(tmp_path):
    scene = Scene(noise=1.0)
    folder = free_map(scene, tmp_path)
    before = pose_errors(scene.truth, read_model(folder).images).mean()
    assert colmap.share_cameras(folder, possible_groups(scene.infos)) == 8
    model = read_model(folder)
    (camera,) = model.cameras.values()
    assert camera.params[0] == pytest.approx(1280, rel=0.01)
    assert pose_errors(scene.truth, model.images).mean() < before


@pytest.mark.parametrize("zoom", [1.1, 1.6])
def test_a_photo_of_another_camera_keeps_its_own(zoom, tmp_path):
    scene = Scene()
    names = sorted(scene.truth)
    middle = np.array([511.5, 383.5], np.float32)
    for name in names[:3]:
        scene.points[name] = (scene.points[name] - middle) * np.float32(zoom) + middle
    folder = free_map(scene, tmp_path)
    assert colmap.share_cameras(folder, possible_groups(scene.infos)) == 5
    found = focals(folder, names)
    assert len(set(found.values())) == 4
    for name in names:
        assert found[name] == pytest.approx(1280 * (zoom if name in names[:3] else 1), rel=0.02)
    assert pose_errors(scene.truth, read_model(folder).images).max() < 0.5


def test_a_focal_length_is_told_with_its_uncertainty(synthetic_map, tmp_path):
    folder = shutil.copytree(synthetic_map[3][0], tmp_path / "map")
    model = pycolmap.Reconstruction(folder)
    image = model.image(next(iter(model.reg_image_ids())))
    right, deviation = sharing._focal(model, image)
    camera = model.camera(image.camera_id)
    camera.params = camera.params * np.array([1.2, 1, 1, 1])
    again, _ = sharing._focal(model, image)
    assert 0 < deviation < 0.01
    assert again == pytest.approx(right, rel=0.002)


def test_those_of_one_folder_device_and_size_may_be_of_one_camera_if_exif_tells_no_focal_length():
    photos = {"a/1.jpg": INFO, "a/2.jpg": INFO, "b/1.jpg": INFO, "a/3.jpg": Photo(640, 480), "b/2.jpg": INFO}
    acme = Photo(1024, 768, make="ACME", model="Phone 1")
    photos |= {"a/4.jpg": acme, "a/5.jpg": acme, "a/6.jpg": replace(acme, zoom=1.6), "b/4.jpg": acme}
    photos |= {f"a/{n}.jpg": replace(acme, focal_px=1000.0) for n in (7, 8)}
    assert possible_groups(photos) == [["a/1.jpg", "a/2.jpg"], ["a/4.jpg", "a/5.jpg"], ["b/1.jpg", "b/2.jpg"]]
    camera_of = colmap.group_cameras(photos)
    assert camera_of["a/7.jpg"] == camera_of["a/8.jpg"] and len(set(camera_of.values())) == len(photos) - 1


@pytest.mark.parametrize("shift", [0, 12])
def test_the_principal_point_of_a_shared_camera_is_found_where_it_is_not_in_the_middle(shift, tmp_path):
    scene = Scene()
    for name in scene.points:
        scene.points[name] = scene.points[name] + np.float32([shift, -shift])
    folder = free_map(scene, tmp_path)
    before = pose_errors(scene.truth, read_model(folder).images).mean()
    groups = possible_groups(scene.infos)
    assert colmap.share_cameras(folder, groups) == 8
    assert not colmap.center_cameras(folder, groups, given=[1])
    assert colmap.center_cameras(folder, groups) == bool(shift)
    model = read_model(folder)
    (camera,) = model.cameras.values()
    expected = [511.5 + shift, 383.5 - shift]
    assert camera.params[1:3] == (pytest.approx(expected, abs=1.5) if shift else expected)
    assert pose_errors(scene.truth, model.images).mean() < min(before, 0.1)

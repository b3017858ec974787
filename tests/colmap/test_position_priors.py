"""A strip of photos bends; known positions or points straighten it, as far as they are exact."""

import zlib  # noqa: F401  before pycolmap

import cv2
import numpy as np
import pycolmap
import pytest

from tpsfm.colmap import project, read_model, refine_model
from tpsfm.colmap.geodesy import transform_model
from tpsfm.colmap.position_priors import KnownPoint, adjust_to_points, adjust_to_positions
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Sim3

PHOTOS, STEP, HEIGHT, NOISE = 60, 4.0, 30.0, 0.6


@pytest.fixture(scope="module")
def strip(tmp_path_factory):
    """A bent map of a strip from observations with noise, and the true centres in the order of the names."""
    rng = np.random.default_rng(0)
    reach = PHOTOS * STEP / 2
    points = rng.uniform((-reach - 15, -14, -1), (reach + 15, 14, 1), (900, 3))
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_RADIAL", width=640, height=480, params=[500, 320, 240, 0])
    model, seen = pycolmap.Reconstruction(), {}
    model.add_camera_with_trivial_rig(camera)
    centers = np.column_stack([np.arange(PHOTOS) * STEP - reach, np.zeros(PHOTOS), np.full(PHOTOS, HEIGHT)])
    centers += rng.normal(0, (0.3, 1, 1), centers.shape)
    for i, center in enumerate(centers):
        rotation = cv2.Rodrigues(rng.normal(0, 0.03, 3))[0] @ np.diag([1.0, -1.0, -1.0])
        pixels = np.asarray(camera.img_from_cam((points - center) @ rotation.T))
        inside = np.flatnonzero(((pixels > 0) & (pixels < (640, 480))).all(1))
        keypoints = pixels[inside] + rng.normal(0, NOISE, (len(inside), 2))
        image = pycolmap.Image(f"{i:03}.jpg", keypoints, camera_id=1, image_id=i + 1)
        pose = pycolmap.Rigid3d(np.column_stack([rotation, -rotation @ center]))
        model.add_image_with_trivial_frame(image, pose)
        for row, point in enumerate(inside):
            seen.setdefault(point, []).append(pycolmap.TrackElement(i + 1, row))
    for point, elements in seen.items():
        if len(elements) > 1:
            model.add_point3D(points[point], pycolmap.Track(elements))
    folder = tmp_path_factory.mktemp("strip")
    (folder / "bent").mkdir()
    model.write_binary(folder)
    refine_model(folder, folder / "bent", {}, loss=0.5)
    return folder / "bent", centers


def centers_of(folder) -> np.ndarray:
    return np.array([pose.center for pose in read_model(folder).images.values()])


def errors(folder, truth) -> tuple[float, float]:
    """The largest error of a centre in metres: as it is, and after a similarity, which leaves the bending."""
    centers = centers_of(folder)
    return tuple(np.linalg.norm(c - truth, axis=1).max() for c in (centers, Sim3.fit(centers, truth)(centers)))


@pytest.mark.parametrize("deviation", [0.03, 2.0])
def test_exact_positions_straighten_a_strip(strip, tmp_path, deviation):
    bent, truth = strip
    positions = truth + np.random.default_rng(1).normal(0, deviation, truth.shape)
    fit = Sim3.fit(centers_of(bent), positions)
    transform_model(bent, tmp_path, fit)
    before = errors(tmp_path, truth)
    names = list(read_model(bent).images)
    deviations = dict.fromkeys(names, np.full(3, deviation))
    adjust_to_positions(tmp_path, tmp_path, dict(zip(names, positions, strict=True)), deviations)
    after = errors(tmp_path, truth)
    if deviation < 1:
        assert before[0] > 0.2 and after[0] < 0.1
    else:  # positions far less exact than the map don't tear it
        assert after[0] < before[0] + 0.1 and after[1] < deviation / 2


def test_one_wrong_position_is_overruled(strip, tmp_path):
    bent, truth = strip
    positions = truth + np.random.default_rng(1).normal(0, 0.03, truth.shape)
    transform_model(bent, tmp_path, Sim3.fit(centers_of(bent), positions))
    positions[30] += (0, 0, 5)
    names = list(read_model(bent).images)
    deviations = dict.fromkeys(names, np.full(3, 0.03))
    adjust_to_positions(tmp_path, tmp_path, dict(zip(names, positions, strict=True)), deviations)
    assert np.linalg.norm(centers_of(tmp_path) - truth, axis=1).max() < 0.15


@pytest.mark.parametrize("deviation", [0.02, 2.0])
def test_exact_points_on_the_ground_straighten_a_strip(strip, tmp_path, deviation):
    bent, truth = strip
    transform_model(bent, tmp_path, Sim3.fit(centers_of(bent), truth))
    before, model = errors(tmp_path, truth), read_model(tmp_path)
    known, camera = read_model(bent.parent).images, read_model(bent.parent).cameras[1]
    rng = np.random.default_rng(2)
    points = []
    for place in np.array([[x, y, 0.5] for x in (-110, -40, 40, 110) for y in (-6, 6)], float):
        seen = []
        for name, pose in known.items():
            pixel = project(camera, pose, place[None])[0] + rng.normal(0, 0.5, 2)
            if ((pixel > 0) & (pixel < (639, 479))).all():
                seen.append((name, *pixel))
        points.append(KnownPoint(place + rng.normal(0, deviation, 3), np.full(3, deviation), seen))
    adjust_to_points(tmp_path, tmp_path, points)
    after, adjusted = errors(tmp_path, truth), read_model(tmp_path)
    assert len(adjusted.points) == len(model.points) and list(adjusted.images) == list(model.images)
    assert adjusted.cameras.keys() == model.cameras.keys()
    if deviation < 1:
        assert after[1] < before[1] / 2 and adjusted.errors.mean() < 1.1 * model.errors.mean()
    else:
        assert after[1] < before[1] + 0.1


def test_a_map_that_is_missing_is_told(tmp_path):
    with pytest.raises(TpsfmError, match="can't adjust the map"):
        adjust_to_positions(tmp_path / "none", tmp_path, {}, {})
    with pytest.raises(TpsfmError, match="can't adjust the map"):
        adjust_to_points(tmp_path / "none", tmp_path, [])

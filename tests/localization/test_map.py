"""Localization of photos that a map has not seen, against their known poses, and an honest no for all others."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

import tpsfm
from tests.support.localizing import HELD, noise
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.localization import localization_errors
from tpsfm.evaluation.poses import load_poses
from tpsfm.features.store import FeatureStore
from tpsfm.geometry import Camera
from tpsfm.localization import map as map_module
from tpsfm.localization.correspondences import match_landmarks
from tpsfm.photos import read_image


def errors(held_out, held_out_map, results):
    truth = load_poses(held_out / "gt.json")
    return localization_errors(truth, held_out_map.model.images, {result.name: result.pose for result in results})


def test_held_out_photos_are_found_within_centimetres(held_out, held_out_map):
    results = [held_out_map.localize(held_out / "queries" / name) for name in HELD]
    metres, degrees = errors(held_out, held_out_map, results)
    assert max(metres) < 0.05 and max(degrees) < 0.2
    for result in results:
        assert (result.status, result.reason, result.camera_source) == ("localized", "", "map")
        assert result.inliers > 100 and result.ratio > 0.5
        assert 0 < result.position_uncertainty < 0.1 and 0 < result.rotation_uncertainty < 0.5
        assert result.covariance.shape == (6, 6)
        assert set(result.retrieved) == set(held_out_map.model.images) and result.best_image in result.retrieved
        assert {"read", "extract", "retrieve", "match", "pose", "align"} == set(result.seconds)


def test_an_unknown_camera_starts_from_that_of_the_same_size(held_out, held_out_map):
    result = held_out_map.localize(read_image(held_out / "queries" / HELD[0]), name=HELD[0])
    metres, degrees = errors(held_out, held_out_map, [result])
    assert result.camera_source == "size"
    assert abs(result.camera.params[0] / (28 / 36 * 480) - 1) < 0.05
    assert metres[0] < 0.3 and degrees[0] < 1


def test_a_size_the_map_has_not_seen_is_estimated_too(held_out, held_out_map):
    """Only the sweep over focal lengths can know this one."""
    smaller = cv2.resize(read_image(held_out / "queries" / HELD[0]), (432, 324), interpolation=cv2.INTER_AREA)
    result = held_out_map.localize(smaller, name=HELD[0])
    assert result.camera_source == "estimated"
    assert abs(result.camera.params[0] / (28 / 36 * 432) - 1) < 0.05


def test_exif_that_lies_is_not_believed(held_out, held_out_map, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "another", "camera"
    exif.get_ifd(0x8769)[0xA405] = 110  # mm, where it was 28
    Image.fromarray(read_image(held_out / "queries" / HELD[0])).save(tmp_path / HELD[0], quality=95, exif=exif)
    result = held_out_map.localize(tmp_path / HELD[0])
    assert result.status == "localized"
    assert abs(result.camera.params[0] / (28 / 36 * 480) - 1) < 0.05


def test_a_given_camera_is_taken_as_it_is(held_out, held_out_map):
    camera = Camera("PINHOLE", 480, 360, [373.3, 373.3, 240, 180])
    result = held_out_map.localize(read_image(held_out / "queries" / HELD[0]), camera)
    assert result.camera_source == "given" and result.camera == camera
    other = held_out_map.localize(read_image(held_out / "queries" / HELD[0]), replace(camera, width=640))
    assert other.status == "failed" and "640x360" in other.reason


def test_other_pictures_get_no_pose(held_out_map, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    blank = held_out_map.localize(np.full((360, 480), 90, np.uint8))
    foreign = held_out_map.localize(noise())
    broken = held_out_map.localize(tmp_path / "broken.jpg")
    for result in (blank, foreign, broken):
        assert result.status == "failed" and result.pose is None and result.camera is None
    assert "no keypoints" in blank.reason
    assert re.search("matches", foreign.reason)
    assert "broken.jpg" in broken.reason


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((9, 9), float), np.zeros((9, 9, 3), np.uint16), np.zeros((9, 9, 4), np.uint8), np.zeros(9, np.uint8)],
)
def test_what_is_no_image_is_refused(pixels, held_out_map):
    with pytest.raises(TpsfmError, match=r"uint8 \[H, W, 3\]"):
        held_out_map.localize(pixels)


def test_a_foreign_photo_is_refused_by_its_strongest_keypoints(held_out, held_out_map, monkeypatch):
    asked = []

    def match(query, landmarks, images, matcher):
        asked.append(len(query))
        return match_landmarks(query, landmarks, images, matcher)

    monkeypatch.setattr(map_module, "match_landmarks", match)
    monkeypatch.setattr(map_module, "SCREENING_KEYPOINTS", 100)
    foreign = held_out_map.localize(noise())
    assert foreign.pose is None and re.search("matches", foreign.reason)
    assert len(asked) == 2 and set(asked) == {100}  # first with some images, then with all
    asked.clear()
    found = held_out_map.localize(held_out / "queries" / HELD[0])
    assert found.pose is not None and found.inliers > 100
    assert asked[0] == 100 and max(asked) > 1000


def test_many_threads_read_one_map(held_out, held_out_map):
    alone = held_out_map.localize(held_out / "queries" / HELD[0])
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: held_out_map.localize(held_out / "queries" / HELD[0]), range(4)))
    for result in together:
        assert result.inliers == alone.inliers
        np.testing.assert_allclose(result.pose.translation, alone.pose.translation, atol=1e-9)


def test_a_map_may_be_moved_but_not_mixed_up(held_out, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(held_out / "map", moved)
    run = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps({**run, "images": str(tmp_path / "gone")}))
    assert tpsfm.Map(moved).localize(held_out / "queries" / HELD[0]).camera_source == "map"  # from the records
    (moved / "photos.json").unlink()
    assert tpsfm.Map(moved).localize(held_out / "queries" / HELD[0]).camera_source == "exif"

    with FeatureStore(moved / "features.h5", "a") as store:
        fingerprint = store.extractor
        store.describe({**fingerprint, "opencv": "another"})
    with pytest.raises(TpsfmError, match=r"another extractor.*opencv was another"):
        tpsfm.Map(moved)
    with FeatureStore(moved / "features.h5", "a") as store:
        store.describe(fingerprint)
        name = store.names()[0]
        store.write(name, store.read(name).select(slice(5, None)), "new")
    with pytest.raises(TpsfmError, match="not those that the map was made from"):
        tpsfm.Map(moved)


def test_no_map_and_an_empty_one(held_out, tmp_path):
    with pytest.raises(TpsfmError, match="not a workspace"):
        tpsfm.Map(tmp_path)
    empty = tmp_path / "empty"
    shutil.copytree(held_out / "map", empty)
    for file in ("images.bin", "points3D.bin"):
        (empty / "sparse" / file).write_bytes(bytes(8))
    with pytest.raises(TpsfmError, match="its map is empty"):
        tpsfm.Map(empty)
    shutil.copytree(held_out / "map" / "sparse", empty / "sparse", dirs_exist_ok=True)
    (empty / "sparse" / "cameras.bin").write_bytes(bytes(8))
    with pytest.raises(TpsfmError, match=r"cameras\.bin.*lacks"):
        tpsfm.Map(empty)

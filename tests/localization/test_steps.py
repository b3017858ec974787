"""The attempts at one photo: which of them its result is, and that no two of them are mixed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

import tpsfm
from tests.support.localizing import HELD, noise
from tpsfm.localization import acceptance, estimation, map
from tpsfm.localization.intrinsics import simple_camera
from tpsfm.photos import read_image, read_photo


@pytest.fixture
def estimated(monkeypatch):
    """How many correspondences each pose was estimated from, in order."""
    counts, estimate = [], estimation.estimate

    def counted(keypoints, *arguments):
        counts.append(len(keypoints))
        return estimate(keypoints, *arguments)

    monkeypatch.setattr(estimation, "estimate", counted)
    return counts


def test_a_second_pass_that_is_rejected_leaves_the_first(held_out, held_out_map, monkeypatch):
    """Between the ratios of the two passes lies the least that is asked for: only the first is accepted."""
    photo = held_out / "queries" / HELD[0]
    monkeypatch.setattr(map, "SUFFICIENT_INLIERS", 10**6)
    everything = held_out_map.localize(photo)
    few = held_out_map.localize(photo, retrieved=everything.retrieved[:5])
    assert everything.ratio < few.ratio and everything.inliers > few.inliers
    monkeypatch.setattr(acceptance, "MIN_RATIO", (everything.ratio + few.ratio) / 2)
    result = held_out_map.localize(photo)
    assert (result.status, result.reason) == ("localized", "")
    assert (result.inliers, result.ratio) == (few.inliers, few.ratio)
    np.testing.assert_array_equal(result.matches, few.matches)
    np.testing.assert_array_equal(result.lines, few.lines)
    np.testing.assert_array_equal(result.pose.translation, few.pose.translation)
    assert result.retrieved == everything.retrieved


def test_where_there_are_no_more_images_the_pose_is_estimated_once(held_out, held_out_map, estimated, monkeypatch):
    monkeypatch.setattr(map, "SUFFICIENT_INLIERS", 10**6)
    photo, names = held_out / "queries" / HELD[0], list(held_out_map.model.images)
    assert held_out_map.localize(photo, retrieved=names[:5]).status == "localized"
    assert len(estimated) == 1
    assert held_out_map.localize(photo, retrieved=names).status == "localized"
    assert len(estimated) == 3 and estimated[2] > estimated[1]


def test_a_photo_that_fails_has_the_reason_and_counts_of_one_attempt(held_out_map):
    camera = simple_camera(373.3, 480, 360)
    for retrieved in (None, [], ["gone.jpg"]):
        result = held_out_map.localize(noise(), camera, retrieved=retrieved)
        assert (result.status, result.pose, result.camera) == ("failed", None, None)
        assert result.reason and len(result.matches) == result.inliers
        assert np.isnan(result.position_uncertainty)
    assert result.reason == "too few matches with the map (0)" and result.retrieved == ()
    with pytest.raises(AttributeError):
        result.reason = ""


@pytest.fixture
def matched(monkeypatch):
    """With how many images each attempt was matched, in order."""
    counts, match = [], map.match_landmarks

    def counted(query, landmarks, images, matcher):
        counts.append(len(images))
        return match(query, landmarks, images, matcher)

    monkeypatch.setattr(map, "match_landmarks", counted)
    return counts


def test_a_foreign_photo_is_matched_with_all_images_once(held_out_map, matched):
    """Features that bear rotation are not tried at other turns."""
    assert held_out_map.localize(noise()).status == "failed"
    assert matched == [5, 3]


@pytest.fixture(scope="module")
def learned_map(held_out, tmp_path_factory):
    """A map of features that don't bear rotation."""
    out = tmp_path_factory.mktemp("learned") / "map"
    tpsfm.reconstruct(held_out / "db", out, features="tpr", max_keypoints=1000, threads=1, align=False)
    return tpsfm.Map(out)


@pytest.mark.parametrize("degrees", [0, 30, 90, 123, 180, 225, 270])
def test_a_rotated_photo_is_found_by_features_that_do_not_bear_it(held_out, learned_map, matched, degrees):
    pixels = read_image(held_out / "queries" / HELD[0])
    turn = cv2.getRotationMatrix2D(((pixels.shape[1] - 1) / 2, (pixels.shape[0] - 1) / 2), degrees, 1)
    result = learned_map.localize(cv2.warpAffine(pixels, turn, pixels.shape[1::-1]), name=HELD[0])
    assert result.status == "localized" and result.inliers > 60
    if degrees > 45:  # a small copy tells the turn; no other is tried at full size
        assert "turns" in result.seconds and len(matched) <= 2 + 8 + 2


def test_a_foreign_photo_is_tried_at_no_turn_that_its_small_copy_does_not_tell(learned_map, matched):
    result = learned_map.localize(noise())
    assert result.status == "failed" and result.reason
    assert matched == [5, 3] + 8 * [map.VOTING_IMAGES]


@pytest.mark.parametrize("zoom", [1.0, 1.3, 2.0])
def test_the_maps_own_camera_is_a_start_that_the_photo_may_refute(zoom, held_out, held_out_map, monkeypatch):
    """A photo of the same device, focal length and size may be zoomed otherwise."""
    photo = replace(read_photo(held_out / "queries" / HELD[0]), make="ACME", model="Phone 1")
    true = held_out_map.localize(held_out / "queries" / HELD[0])
    focal, *rest = true.camera.params
    wrong = replace(true.camera, params=[zoom * focal, *rest])
    monkeypatch.setattr(held_out_map, "_cameras", {photo.camera_key: wrong})
    found = held_out_map.localize(photo)
    assert found.status == "localized" and (found.camera_source == "map") == (zoom == 1)
    assert found.camera.params[0] == pytest.approx(focal, rel=0.02)
    assert np.linalg.norm(found.pose.center - true.pose.center) < 3 * found.position_uncertainty

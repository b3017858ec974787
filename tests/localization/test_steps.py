"""The attempts at one photo: which of them its result is, and that no two of them are mixed."""

import numpy as np
import pytest

import tpsfm
from tests.support.localizing import HELD, noise
from tpsfm.localization import acceptance, estimation, map
from tpsfm.localization.intrinsics import simple_camera
from tpsfm.photos import read_image


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


def test_a_foreign_photo_is_matched_with_all_images_only_as_it_is(held_out_map, matched):
    assert held_out_map.localize(noise()).status == "failed"
    assert matched == [5, 3, 5, 5, 5]


def test_a_rotated_photo_is_found_by_features_that_do_not_bear_it(held_out, tmp_path, matched):
    tpsfm.reconstruct(held_out / "db", tmp_path / "map", features="tpr", max_keypoints=1000, threads=1)
    loaded = tpsfm.Map(tmp_path / "map")
    pixels = read_image(held_out / "queries" / HELD[0])
    for quarters in range(4):
        matched.clear()
        result = loaded.localize(np.ascontiguousarray(np.rot90(pixels, quarters)), name=HELD[0])
        assert result.status == "localized" and result.inliers > 100
        assert len(matched) > quarters

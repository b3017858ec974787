"""The points that a map's images show, and which of their matches are taken."""

import numpy as np
import pytest

from tpsfm.geometry.model import read_model, read_observations
from tpsfm.localization.correspondences import Correspondences, best_point_each, covisible_groups
from tpsfm.localization.landmarks import Landmarks


def landmarks(*images) -> Landmarks:
    """Landmarks of images given by their points."""
    starts = np.cumsum([0, *map(len, images)])
    points = np.concatenate(images).astype(np.int32)
    names = [str(number) for number in range(len(images))]
    none = np.zeros((len(points), 4), np.float16)
    return Landmarks(names, [(640, 480)] * len(names), starts, points, none[:, :2], none[:, 0], none)


def test_images_that_share_points_are_grouped():
    place, elsewhere = np.arange(20), np.arange(100, 120)
    together = landmarks(place, elsewhere, place[10:], elsewhere[5:], [*place[:2], *elsewhere[:2]])
    assert covisible_groups(together, [3, 0, 2, 1, 4]) == [[3, 1], [0, 2], [4]]
    assert covisible_groups(together, []) == []


def test_a_keypoint_takes_the_point_that_most_images_gave_it():
    seen = landmarks([7, 8], [7, 9], [9])
    matches = Correspondences(
        keypoints=np.array([5, 5, 5, 6, 6]),
        landmarks=np.array([0, 2, 1, 3, 1]),  # points 7, 7, 8; 9, 8
        images=np.array([0, 1, 0, 1, 0]),
        scores=np.array([0.5, 0.6, 0.9, 0.7, 0.8], np.float32),
    )
    chosen = best_point_each(matches, seen.points)
    assert chosen.keypoints.tolist() == [5, 6]
    assert seen.points[chosen.landmarks].tolist() == [7, 8]
    assert chosen.scores.tolist() == pytest.approx([0.6, 0.8])


def test_observations_belong_to_points(held_out):
    model, seen = read_model(held_out / "map" / "sparse"), read_observations(held_out / "map" / "sparse")
    assert list(seen) == list(model.images)
    counts = np.zeros(len(model.points), int)
    for name, (keypoints, rows) in seen.items():
        shown = rows >= 0
        np.add.at(counts, rows[shown], 1)
        pose = model.images[name]
        x = model.points[rows[shown]] @ pose.rotation.T + pose.translation
        projected = (x / x[:, 2:]) @ model.cameras[pose.camera_id].matrix[:2].T
        assert np.median(np.linalg.norm(projected - keypoints[shown], axis=1)) < 1
    assert (counts == model.track_lengths).all()

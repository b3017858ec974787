"""The points that a map's images show, and which of their matches are taken."""

import shutil
from typing import ClassVar

import numpy as np
import pytest

import tpsfm
from tests.support.localizing import HELD
from tests.support.stored import features_of_before
from tpsfm.colmap import read_model, read_observations
from tpsfm.features import Features
from tpsfm.features.store import FeatureStore
from tpsfm.localization.correspondences import Correspondences, best_point_each, covisible_groups
from tpsfm.localization.landmarks import Landmarks
from tpsfm.matching import Matcher
from tpsfm.matching.nearest import mutual_nearest


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


def test_the_first_opening_of_a_map_keeps_its_landmarks_in_a_file(held_out, tmp_path, monkeypatch):
    root = tmp_path / "map"
    shutil.copytree(held_out / "map", root, ignore=shutil.ignore_patterns("landmarks-*"))
    photo = held_out / "queries" / HELD[0]
    read, names = FeatureStore.read, []
    monkeypatch.setattr(FeatureStore, "read", lambda store, name: names.append(name) or read(store, name))

    def localized(vocabulary=8) -> tuple[list[str], tpsfm.Localization]:
        """Names of the images whose features are read (SIFT's vocabulary is trained on all of them), and a result."""
        names.clear()
        result = tpsfm.Map(root).localize(photo)
        return names[vocabulary:], result

    images = list(read_model(root / "sparse").images)
    read_before, first = localized()
    (file,) = root.glob("landmarks-*.bin")
    read_after, second = localized()
    assert read_before == images and read_after == []
    file.write_bytes(file.read_bytes()[:-1])  # as no crash leaves it
    read_again, third = localized()
    assert read_again == images and list(root.glob("landmarks-*")) == [file]

    (tmp_path / "aside").write_bytes(file.read_bytes())
    file.unlink()
    file.mkdir()  # so that it can't be written, by root either
    read_then, fourth = localized()
    assert read_then == 2 * images and list(root.glob("landmarks-*")) == [file]
    for result in (second, third, fourth):
        np.testing.assert_array_equal(result.matches, first.matches)
        np.testing.assert_array_equal(result.pose.translation, first.pose.translation)
        assert result.retrieved == first.retrieved


def test_a_map_of_before_with_descriptors_of_16_bits_is_kept(held_out, tmp_path):
    root, photo = tmp_path / "map", held_out / "queries" / HELD[0]
    shutil.copytree(held_out / "map", root)
    features_of_before(root / "features.h5")
    before = {path: path.read_bytes() for path in [*root.glob("sparse/*.bin"), root / "features.h5"]}
    tpsfm.reconstruct(held_out / "db", root, features="sift", max_keypoints=1500, threads=1)
    assert {path: path.read_bytes() for path in before} == before
    tpsfm.Map(root)
    (file,) = root.glob("landmarks-*.bin")
    content = file.read_bytes()
    rows = np.load(file, mmap_mode="r")
    halves = [("point", "<i4"), ("keypoint", "<f4", 2), ("score", "<f4"), ("descriptor", "<f2", 128)]
    vectors, rows = content[rows.offset + rows.nbytes :], rows.astype(halves)  # no longer of the file, which is cut now
    with open(file, "wb") as stream:
        np.save(stream, rows)
        stream.write(vectors)
    assert tpsfm.Map(root).localize(photo).status == "localized"
    assert file.read_bytes() == content


class Near(Matcher):
    """Mutual neighbours that lie at similar places of both images: a matcher that takes more than descriptors."""

    name = "near"
    fingerprint: ClassVar = {"name": "near"}

    def match(self, first: Features, second: Features) -> tuple[np.ndarray, np.ndarray]:
        matches, scores = mutual_nearest(first.descriptors, second.descriptors, ratio=0.9)
        places = [
            features.keypoints[rows] / features.image_size
            for features, rows in zip((first, second), matches.T, strict=True)
        ]
        strong = first.scores[matches[:, 0]] + second.scores[matches[:, 1]] > 0
        near = strong & (np.abs(places[0] - places[1]).max(1) < 0.4)
        return matches[near], scores[near]


def test_a_matcher_gets_all_of_the_landmarks_features(held_out):
    loaded = tpsfm.Map(held_out / "map")
    loaded.matcher = Near()
    result = loaded.localize(held_out / "queries" / HELD[0])
    assert result.status == "localized" and result.inliers > 100
    assert np.abs(result.lines[:, :2] - result.lines[:, 2:]).max(0)[0] < 0.4 * 480

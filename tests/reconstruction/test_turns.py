"""Photos that are turned against each other: found out, mapped, localized."""

import logging
import shutil

import cv2
import numpy as np
import pytest

import tpsfm
from tpsfm.colmap import read_model
from tpsfm.features.upright import rotation, upright_features
from tpsfm.io.workspace import Workspace
from tpsfm.matching.nearest import mutual_nearest
from tpsfm.photos import read_image, read_photo, turned, upright
from tpsfm.reconstruction import Stages, previews, turns
from tpsfm.reconstruction.description import describe
from tpsfm.retrieval import index
from tpsfm.retrieval.vlad import train_vocabulary


@pytest.fixture(scope="module")
def photo(courtyard):
    return read_image(courtyard / "images" / "view_000.jpg")


@pytest.fixture(scope="module")
def extractor():
    return tpsfm.load_extractor("tpr", max_keypoints=1500)


def rotated(image, degrees):
    """The image rotated clockwise, its corners cut off."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC)


def difference(degrees, expected):
    return abs((degrees - expected + 180) % 360 - 180)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_turned_shows_the_image_turned_clockwise(orientation):
    image = np.arange(6).reshape(2, 3)
    for quarters in range(4):
        seen = upright(image, turned(orientation, quarters))
        np.testing.assert_array_equal(seen, np.rot90(upright(image, orientation), -quarters))


class Dots(tpsfm.Extractor):
    """Finds the centres of bright dots."""

    def extract(self, image, mask=None):
        self.seen = image
        seen = image if mask is None else np.where(mask, image, 0)
        _, _, _, centres = cv2.connectedComponentsWithStats((seen > 60).astype(np.uint8))
        points = centres[1:].astype(np.float32)
        return tpsfm.Features(points, points[:, 0], points, image.shape[1::-1])

    @property
    def fingerprint(self):
        return {}


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("turn", [0, 15, 45, 90, 105, 210, 345])
def test_keypoints_of_a_turned_photo_lie_where_they_do_in_the_photo(turn, orientation):
    image = np.tile(np.linspace(0, 50, 320).astype(np.uint8), (240, 1))  # not blank
    dots = np.array([[40, 50], [160, 120], [290, 200], [70, 210], [250, 30]])
    for dot in dots:
        cv2.circle(image, tuple(map(int, dot)), 4, 255, -1, cv2.LINE_AA)
    mask = np.ones(image.shape, bool)
    mask[:, 270:] = False
    found = upright_features(Dots(), image, mask, orientation, turn=turn)
    assert found.image_size == (320, 240)
    order = np.lexsort(found.keypoints.round().T)
    expected = dots[dots[:, 0] < 270]
    np.testing.assert_allclose(found.keypoints[order], expected[np.lexsort(expected.T)], atol=0.4)


def test_a_turned_photo_is_seen_clockwise_and_whole():
    image = np.zeros((100, 200), np.uint8)
    image[40:60, 180:] = 255  # at the right
    dots = Dots()
    upright_features(dots, image, None, 1, turn=45)
    height, width = dots.seen.shape
    y, x = np.argwhere(dots.seen[height // 2 :, width // 2 :] > 200).mean(0)  # then at the lower right
    assert x > 0.3 * width / 2 and y > 0.3 * height / 2
    matrix, size = rotation((200, 100), 45)
    corners = np.array([[0, 0], [199, 0], [0, 99], [199, 99]]) @ matrix[:, :2].T + matrix[:, 2]
    assert (corners > -1).all() and (corners < size).all()


def test_no_keypoints_lie_along_the_edges_of_a_turned_photo(photo, extractor):
    """Nor does any describe the corners of the canvas, in which there is nothing."""
    found = upright_features(extractor, photo, None, 1, turn=45).keypoints
    height, width = photo.shape[:2]
    assert len(found) > 500
    assert (found >= 3).all() and (found <= (width - 4, height - 4)).all()


def test_features_of_a_photo_turned_back_match_at_every_angle(photo, extractor):
    first = extractor.extract(photo)
    centre = (photo.shape[1] - 1) / 2, (photo.shape[0] - 1) / 2
    for degrees in (45, 75, 135, 250):
        other, matrix = rotated(photo, degrees), cv2.getRotationMatrix2D(centre, -degrees, 1)

        def right(turn, other=other, matrix=matrix):
            second = upright_features(extractor, other, None, 1, turn=turn)
            index, _ = mutual_nearest(first.descriptors, second.descriptors, ratio=0.9)
            points = first.keypoints[index[:, 0]] @ matrix[:, :2].T + matrix[:, 2]
            return (np.linalg.norm(points - second.keypoints[index[:, 1]], axis=1) < 3).sum()

        assert right(-degrees % 360) > 200 > 2 * right(0)


def test_turns_agree_along_the_surest_pairs():
    relative = {
        ("a", "b"): (92.0, 50),
        ("b", "c"): (272.0, 40),
        ("a", "c"): (180.0, 5),
        ("c", "d"): (0.0, 30),
        ("e", "f"): (181.0, 9),
    }
    found = turns.agree("abcdefg", relative)
    assert {name: found.get(name, 0) for name in "abcd"} == {"a": 0, "b": 90, "c": 0, "d": 0}  # nearly a whole turn
    assert sorted([found.get("e", 0), found.get("f", 0)]) == [0, 180]
    assert "g" not in found


def test_turns_are_rounded_to_quarters_where_little_is_left_and_to_steps_elsewhere():
    assert [turns.rounded(d) for d in (-11, 100, 358, 13, 123, 44, 300)] == [0, 90, 0, 15, 120, 45, 300]


def test_no_two_photos_are_left_turned_by_more_than_25_degrees():
    left = [(d - turns.rounded(d) + 180) % 360 - 180 for d in np.linspace(0, 360, 721)]
    assert max(left) - min(left) <= 25


def test_unclear_turns_bind_nothing():
    assert turns.agree("ab", {("a", "b"): (180.0, 0)}) == {}


def test_the_turn_between_two_photos_is_seen(photo, extractor):
    first = previews.preview(extractor, photo)
    for degrees in (0, 30, 45, 90, 123, 200, 270, 340):
        second = previews.preview(extractor, rotated(photo, -degrees))
        found, inliers = previews.relative_turn(first, second)
        assert difference(found, degrees) < 3 and inliers > 0
    noise = np.random.default_rng(0).integers(0, 255, photo.shape, np.uint8)
    assert previews.relative_turn(first, previews.preview(extractor, noise))[1] == 0


def test_a_preview_of_a_file_is_that_of_its_pixels_seen_upright(courtyard, extractor, tmp_path):
    photo = read_photo(courtyard / "images" / "view_000.jpg")
    (level,) = previews.preview(extractor, photo, 100, 1)
    assert level.image_size == (100, 75) and level.descriptors.dtype == np.int8
    assert max(photo.decode(least=100).shape) < max(photo.size)  # and not all of it is decoded


@pytest.fixture(scope="module")
def turned_photos(courtyard, tmp_path_factory):
    """Of eight photos three are stored turned, two of them by an angle, of which no EXIF tells; and one is gone."""
    out = tmp_path_factory.mktemp("turned")
    names = sorted(path.name for path in (courtyard / "images").iterdir())
    angles = {names[2]: 90, names[3]: 150, names[6]: 300, names[9]: 135}
    for i, name in enumerate(names):
        folder = out / ("query" if i in (4, 9) else "images")
        folder.mkdir(exist_ok=True)
        pixels = cv2.imread(str(courtyard / "images" / name))
        degrees = angles.get(name, 0)
        pixels = np.rot90(pixels, -degrees // 90) if degrees % 90 == 0 else rotated(pixels, degrees)
        cv2.imwrite(str(folder / name), pixels)
    (out / "images" / "gone.jpg").symlink_to(out / "nowhere.jpg")
    return out, {name: -angle % 360 for name, angle in angles.items()}


def test_turned_photos_are_mapped_and_localized_without_being_asked(turned_photos, tmp_path):
    folder, expected = turned_photos
    workspace = tpsfm.reconstruct(folder / "images", tmp_path / "map", seed=1)
    assert list(workspace.manifest["unreadable"]) == ["gone.jpg"]
    found = workspace.manifest["turns"]
    assert set(found) == set(expected) & {path.name for path in (folder / "images").iterdir()}
    assert all(difference(found[name], expected[name]) <= 15 for name in found)
    lines = "\n".join(describe(workspace))
    assert "time                turns" in lines and "turned              3 photos" in lines
    assert "3 photos are turned" in workspace.report.read_text()
    model = read_model(workspace.sparse)
    assert len(model.images) == 8
    results = {r.name: r for r in tpsfm.localize(folder / "query", tmp_path / "map", tmp_path / "found")}
    assert all(result.status == "localized" for result in results.values())
    # Turned about its axis only: the camera's centre stays on the ring between its neighbours.
    names = sorted([*model.images, *results])
    near = np.linalg.norm(model.images[names[8]].center - results[names[9]].pose.center)
    far = np.linalg.norm(model.images[names[0]].center - model.images[names[5]].center)
    assert near < far


def logged(caplog):
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("turns")]


def test_where_nothing_is_turned_only_a_sample_is_looked_at(courtyard, tmp_path, caplog):
    caplog.set_level(logging.INFO, "tpsfm")
    workspace = Workspace.open(tmp_path, create=True)
    for given, every in ((None, False), (True, True), (None, True), (False, None), (None, False)):
        stages = Stages.of(turned=given)
        stages.record(workspace, courtyard / "images")
        stages.turns.run(workspace)
        assert workspace.manifest.get("turns", {}) == {}
        assert workspace.manifest["stages"].get("turns", {}).get("counts") == (
            None if every is None else {"turned": 0, "all": every}
        )


def test_photos_of_features_that_bear_rotation_are_not_looked_at(turned_photos, tmp_path):
    workspace = Workspace.open(tmp_path, create=True)
    stages = Stages.of(features="sift")
    stages.record(workspace, turned_photos[0] / "images")
    stages.turns.run(workspace)
    assert "turns" not in workspace.manifest["stages"] and "turns" not in workspace.manifest


def test_all_photos_are_looked_at_where_the_verified_pairs_leave_parts(turned_photos, tmp_path, monkeypatch, caplog):
    """The sample misses the turned photos; without turns they match no other."""
    caplog.set_level(logging.INFO, "tpsfm")
    look, samples = turns.Turns._is_any_turned, []

    def missing_at_first(self, extractor, photos, sample, progress):
        samples.append(list(sample))
        return len(samples) > 1 and look(self, extractor, photos, sample, progress)

    monkeypatch.setattr(turns.Turns, "_is_any_turned", missing_at_first)
    workspace = tpsfm.reconstruct(turned_photos[0] / "images", tmp_path / "map", align=False)
    assert len(workspace.manifest["turns"]) == 3
    assert any("leave the photos in" in line for line in logged(caplog))
    assert len(read_model(workspace.sparse).images) == 8
    before = (workspace.root / "mapped" / "images.bin").stat().st_mtime_ns
    again = tpsfm.reconstruct(turned_photos[0] / "images", tmp_path / "map", align=False)
    assert len(again.manifest["turns"]) == 3
    assert (workspace.root / "mapped" / "images.bin").stat().st_mtime_ns == before


def test_a_photo_of_another_place_is_looked_at_alone_and_once(courtyard, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "tpsfm")
    images = shutil.copytree(courtyard / "images", tmp_path / "images")
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    cv2.imwrite(str(images / "zz.png"), cv2.GaussianBlur(noise, (0, 0), 2))
    looked, original = [], previews.preview
    monkeypatch.setattr(previews, "preview", lambda *a: looked.append((a[1].name, a[3])) or original(*a))
    for _ in range(2):
        workspace = tpsfm.reconstruct(images, tmp_path / "map", align=False)
    assert workspace.manifest["stages"]["turns"]["counts"] == {"turned": 0, "all": False, "apart": ["zz.png"]}
    photos = len(workspace.manifest["photos"])
    assert len(looked) == 2 * photos  # the sample's copies and these, of the first run alone
    assert [name for name, turn_count in looked[photos:] if turn_count > 1] == ["zz.png"]
    del workspace.manifest["photos"]["zz.png"]  # now none is apart, where one was
    looked.clear()
    assert not Stages.of().turns.may_have_missed(workspace) and not looked


def test_likely_pairs_are_the_most_alike_at_any_turn(monkeypatch):
    rng = np.random.default_rng(0)
    none = np.zeros((9, 2), np.float32)

    def level():
        return tpsfm.Features(none, none[:, 0], rng.normal(size=(9, 8)).astype(np.float32), (1, 1))

    photos = {f"{i:03}": [level() for _ in range(8)] for i in range(40)}
    vocabulary = train_vocabulary(rng.normal(size=(500, 8)).astype(np.float32), size=4)
    vectors = np.array([[vocabulary.describe(one.descriptors) for one in levels] for levels in photos.values()])
    similarity = np.max([vectors[:, 0] @ vectors[:, turn].T for turn in range(8)], axis=0)
    np.fill_diagonal(similarity, -1)
    nearest = np.argsort(-similarity, axis=1)
    names = list(photos)
    expected = {(names[min(i, j)], names[max(i, j)]) for i in range(40) for j in nearest[i, : previews.NEIGHBOURS]}
    monkeypatch.setattr(index, "CHUNK", 7)
    found = set(previews.likely_pairs(photos, vocabulary))
    assert len(found ^ expected) <= 2  # vectors of 16 bits
    sample = {name: levels if name in names[::8] else levels[:1] for name, levels in photos.items()}
    similarity = np.max([vectors[:, turn] @ vectors[:, 0].T for turn in range(8)], axis=0)
    np.fill_diagonal(similarity, -1)
    nearest = np.argsort(-similarity, axis=1)
    expected = {(names[i], names[j]) for i in range(0, 40, 8) for j in nearest[i, : previews.SAMPLE_NEIGHBOURS]}
    assert len(set(previews.sample_pairs(sample, vocabulary)) ^ expected) <= 2


def test_a_killed_look_at_small_copies_goes_on_from_those_that_it_had(courtyard, extractor, tmp_path, monkeypatch):
    paths = sorted((courtyard / "images").iterdir())[:5]
    photos = {path.name: read_photo(path, path.name) for path in paths}
    counts = dict.fromkeys(photos, 1) | {paths[1].name: 2}
    whole = previews.Previews(extractor, tmp_path / "whole").of(photos, 100, counts, lambda *_: None)
    kept = previews.Previews(extractor, tmp_path / "kept")

    def killed(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.of(photos, 100, counts, killed)
    looked, original = [], previews.preview
    monkeypatch.setattr(previews, "preview", lambda *a: looked.append(a[1].name) or original(*a))
    again = kept.of(photos, 100, counts, lambda *_: None)
    assert looked == list(photos)[3:]
    for name, levels in whole.items():
        for level, other in zip(levels, again[name], strict=True):
            assert level.image_size == other.image_size
            np.testing.assert_array_equal(level.keypoints, other.keypoints)
            np.testing.assert_array_equal(level.descriptors, other.descriptors)
    looked.clear()
    kept.of(photos, 100, counts | {paths[2].name: 2}, lambda *_: None)  # of which less was seen
    assert looked == list(photos)

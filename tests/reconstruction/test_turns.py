"""Photos that are turned against each other: found out, mapped, localized."""

import cv2
import numpy as np
import pytest

import tpsfm
from tpsfm.colmap import read_model
from tpsfm.photos import read_image, turned, upright
from tpsfm.reconstruction import turns
from tpsfm.reconstruction.report import describe
from tpsfm.retrieval.vlad import train_vocabulary


@pytest.fixture(scope="module")
def photo(courtyard):
    return read_image(courtyard / "images" / "view_000.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_turned_shows_the_image_turned_clockwise(orientation):
    image = np.arange(6).reshape(2, 3)
    for quarters in range(4):
        seen = upright(image, turned(orientation, quarters))
        np.testing.assert_array_equal(seen, np.rot90(upright(image, orientation), -quarters))


def test_turns_agree_along_the_surest_pairs():
    relative = {("a", "b"): (1, 50), ("b", "c"): (3, 40), ("a", "c"): (2, 5), ("c", "d"): (0, 30), ("e", "f"): (2, 9)}
    found = turns.agree("abcdefg", relative)
    assert {name: found.get(name, 0) for name in "abcd"} == {"a": 0, "b": 1, "c": 0, "d": 0}  # b + 3 is a whole turn
    assert sorted([found.get("e", 0), found.get("f", 0)]) == [0, 2]
    assert "g" not in found


def test_unclear_turns_bind_nothing():
    assert turns.agree("ab", {("a", "b"): (2, 0)}) == {}


def test_the_turn_between_two_photos_is_seen(photo):
    extractor = tpsfm.load_extractor("tpr")
    first = turns.preview(extractor, photo, 1)
    for quarters in range(4):
        second = turns.preview(extractor, np.ascontiguousarray(np.rot90(photo[8:, 16:], quarters)), 1)
        found, margin = turns.relative_turn(first, second)
        assert found == quarters and margin > 0
    noise = np.random.default_rng(0).integers(0, 255, photo.shape, np.uint8)
    assert turns.relative_turn(first, turns.preview(extractor, noise, 1))[1] == 0


def test_turned_photos_are_mapped_and_localized(courtyard, tmp_path):
    """Of eight photos three are stored turned, which no EXIF tells; of two queries one lies upside down."""
    names = sorted(path.name for path in (courtyard / "images").iterdir())
    quarters = {names[2]: 1, names[3]: 2, names[6]: 3, names[9]: 2}
    for i, name in enumerate(names):
        folder = tmp_path / ("query" if i in (4, 9) else "images")
        folder.mkdir(exist_ok=True)
        pixels = np.rot90(cv2.imread(str(courtyard / "images" / name)), quarters.get(name, 0))
        cv2.imwrite(str(folder / name), pixels)
    (tmp_path / "images" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    workspace = tpsfm.reconstruct(tmp_path / "images", tmp_path / "map", turned=True, seed=1)
    assert list(workspace.manifest["unreadable"]) == ["gone.jpg"]
    assert workspace.manifest["turns"] == {names[2]: 1, names[3]: 2, names[6]: 3}
    assert "time                turns" in "\n".join(describe(workspace))
    model = read_model(workspace.sparse)
    assert len(model.images) == 8
    results = {r.name: r for r in tpsfm.localize(tmp_path / "query", tmp_path / "map", tmp_path / "found")}
    assert all(result.status == "localized" for result in results.values())
    # Turned about its axis only: the camera's centre stays on the ring between its neighbours.
    near = np.linalg.norm(model.images[names[8]].center - results[names[9]].pose.center)
    far = np.linalg.norm(model.images[names[0]].center - model.images[names[5]].center)
    assert near < far


def test_likely_pairs_are_the_most_alike_whatever_the_rows_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    previews = {f"{i:03}": [rng.normal(size=(9, 8)).astype(np.float16) for _ in range(4)] for i in range(40)}
    vocabulary = train_vocabulary(rng.normal(size=(500, 8)).astype(np.float32), size=4)
    expected = turns.likely_pairs(previews, vocabulary)
    assert len(expected) >= 40 * turns.NEIGHBOURS / 2
    monkeypatch.setattr(turns, "ROWS", 7)
    assert turns.likely_pairs(previews, vocabulary) == expected

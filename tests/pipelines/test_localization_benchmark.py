"""What the benchmarks of localization and retrieval make of their raw numbers, by hand, and COLMAP's matches."""

import numpy as np
import pytest
from PIL import Image

from pipelines import calibration, localization, retrieval
from pipelines.chains import Limits
from tpsfm.colmap import read_model
from tpsfm.evaluation.localization import localization_errors
from tpsfm.evaluation.poses import load_poses
from tpsfm.photos import read_photo


def test_a_lost_photo_counts_as_wrong():
    """Four photos in two folds: one exact, one far, one lost, one turned; positions are shares of the extent."""
    light = {"inliers": [100, 50], "seconds": {step: [0.1, 0.3] for step in localization.STEPS}}
    folds = [
        {"day": light | {"position": [0.001, 0.01], "rotation": [0.1, 0.1]}},
        {"day": light | {"position": [None, 0.001], "rotation": [None, 0.4]}},
    ]
    line = localization.summary(folds, "day")
    assert (line["queries"], line["localized"]) == (4, 3)
    assert line["position %"] == pytest.approx(100 * (0.001 + 0.01) / 2)
    assert line["rotation °"] == pytest.approx(0.25)
    assert [line[name] for name in localization.WITHIN] == [25, 50, 75]
    assert line["extract s"] == pytest.approx(0.2)


def test_inside_is_of_the_localized():
    row = {
        "position": [0.02, 0.05, None],
        "rotation": [0.1, 0.1, None],
        "position uncertainty": [0.04, 0.04, None],
        "rotation uncertainty": [0.2, 0.1, None],
    }
    line = calibration.summary(row)
    assert (line["queries"], line["localized"]) == (3, 2)
    assert (line["position inside"], line["rotation inside"]) == (50, 100)
    assert line["error / uncertainty"] == pytest.approx((0.5 + 1.25) / 2)


def test_random_cameras_see_the_courtyard():
    views = calibration.random_views(50, seed=0)
    pixels = np.array([view.project(np.array([0.0, -0.8, 2.8])) for view in views])
    assert (pixels[:, 2] > 5).all()
    assert (np.abs(pixels[:, :2] - [319.5, 239.5]) < [320, 240]).all()
    assert len({view.C.tobytes() for view in views}) == 50


def test_a_query_never_finds_itself():
    """Photo a is nearest to itself, then to b, which is true; c is found second, d is a distractor."""
    angles = {("s", "a"): 0.0, ("s", "b"): 0.2, ("s", "c"): 0.5, ("", "d"): 0.3}
    day = {name: np.array([np.cos(angle), np.sin(angle)], np.float32) for name, angle in angles.items()}
    truth = {("s", "a"): {("s", "b"), ("s", "c")}, ("s", "b"): set(), ("s", "c"): {("s", "b")}}
    line = retrieval.searched(day, day, truth)
    assert line["queries"] == 2
    assert line["hit@1"] == 50 and line["share@1"] == 50  # c finds d first
    assert line["hit@5"] == 100 and line["share@5"] == 100


def test_the_index_holds_two_bytes_a_number():
    row = retrieval.index_of(4096, 64)  # a whole chunk
    assert row["bytes an image"] == 128
    assert retrieval.index_of(2048, 64)["bytes an image"] == 256
    assert row["one query s"] > 0 and row["100 queries s"] > 0
    assert row["peak MiB"] >= row["before MiB"] > 0


def test_photos_at_night_keep_their_exif(courtyard, tmp_path):
    path = courtyard / "images" / "view_000.jpg"
    localization.put(tmp_path / "night", {path.name: path}, dark=True)
    assert read_photo(tmp_path / "night" / path.name).model == "demo camera"
    day, dark = (np.asarray(Image.open(file), float).mean() for file in (path, tmp_path / "night" / path.name))
    assert dark < 0.7 * day


def test_colmaps_matches_give_poses(courtyard, tmp_path):
    """Two photos held out of ten, and one that shows nothing of the scene."""
    names = sorted(path.name for path in (courtyard / "images").iterdir())
    held = names[3::4]
    localization.put(tmp_path / "map", {name: courtyard / "images" / name for name in names if name not in held})
    localization.put(tmp_path / "day", {name: courtyard / "images" / name for name in held})
    (tmp_path / "noise").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (360, 480, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise" / "noise.png")
    sparse, found = localization.localize("colmap", tmp_path, Limits(max_keypoints=1500, max_size=480, threads=1))
    mapped = {name.removeprefix("map/"): pose for name, pose in read_model(sparse).images.items()}
    truth = load_poses(courtyard / "gt.json")
    position, rotation = localization_errors(truth, mapped, {name: found["day"][name][0] for name in held})
    assert position.max() < 0.15 and rotation.max() < 0.7  # metres and degrees
    assert found["noise"]["noise.png"][0] is None

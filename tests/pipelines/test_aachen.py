"""Aachen Day-Night's pipeline on a rendered miniature in exactly its layout, with known poses by day and at night."""

import json
import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipelines import aachen
from pipelines.aachen_data import open_dataset, read_nvm
from tpsfm import colmap
from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.night import night
from tpsfm.evaluation.poses import load_poses
from tpsfm.features.store import FeatureStore
from tpsfm.geometry import quaternion
from tpsfm.localization import Map
from tpsfm.pairs.selection import from_covisibility
from tpsfm.photos import read_image

HELD = {
    "query/day/milestone/2010-10-30_17-47-25_73.jpg": "view_002.jpg",
    "query/day/nexus4/IMG_20130210_163213.jpg": "view_007.jpg",
    "query/night/nexus5x/IMG_20161227_160705.jpg": "view_004.jpg",
    "query/night/nexus5x/IMG_20161227_160713.jpg": "view_007.jpg",
}
FOCAL = 28 / 36 * 480
CAMERA = f"SIMPLE_RADIAL 480 360 {FOCAL} 240 180 0"
OPTIONS = ("--features", "sift", "--max-keypoints", 1500, "--threads", 1)


def numbers(*values) -> str:
    return " ".join(repr(float(value)) for value in values)


@pytest.fixture(scope="module")
def dataset(courtyard, tmp_path_factory):
    """Seven database images, two queries by day and two at night; both reference models, pairs and the truth."""
    root = tmp_path_factory.mktemp("aachen")
    truth = load_poses(courtyard / "gt.json")
    images = root / "images" / "images_upright"
    names = {f"db/{i}.jpg": photo for i, photo in enumerate(truth) if photo not in HELD.values()}
    for seed, (name, photo) in enumerate((names | HELD).items()):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = read_image(courtyard / "images" / photo)
        Image.fromarray(night(pixels, seed, 2.0) if "night" in name else pixels).save(images / name, quality=95)
    (root / "queries").mkdir()
    for light in ("day", "night"):
        rows = [f"{name} {CAMERA}\n" for name in HELD if f"/{light}/" in name]
        (root / "queries" / f"{light}_time_queries_with_intrinsics.txt").write_text("".join(rows))
    poses = {name: truth[photo] for name, photo in (names | HELD).items()}
    write_models(root / "3D-models", {name: poses[name] for name in names})
    rows = [f"{q.split('/')[-1]} {numbers(*quaternion(poses[q].rotation), *poses[q].translation)}" for q in HELD]
    (root / "truth.txt").write_text("\n".join(rows))
    (root / "pairs.txt").write_text("".join(f"{query} {name}\n" for query in HELD for name in names))
    return root


def write_models(folder, poses) -> None:
    """v1.1's as COLMAP's text, v1.0's as NVM, of random points that are seen by whoever has them in the image."""
    points = np.random.default_rng(0).uniform((-5, -3, 0), (5, 3, 5), (120, 3))
    tracks, cameras, images, rows = [[] for _ in points], [], [], []
    for number, (name, pose) in enumerate(poses.items(), 1):
        local = points @ pose.rotation.T + pose.translation
        xy = local[:, :2] / local[:, 2:] * FOCAL + (240, 180)
        seen = np.flatnonzero((local[:, 2] > 0) & (xy > 0).all(1) & (xy < (480, 360)).all(1))
        for feature, point in enumerate(seen):
            tracks[point].append((number, feature, *xy[point]))
        wxyz = numbers(*quaternion(pose.rotation))
        cameras.append(f"{number} {CAMERA}")
        images.append(f"{number} {wxyz} {numbers(*pose.translation)} {number} {name}")
        images.append(" ".join(f"{xy[point][0]} {xy[point][1]} {point + 1}" for point in seen))
        rows.append(f"{name}\t{FOCAL} {wxyz} {numbers(*pose.center)} 0 0")
    colmaps = [
        f"{i} {numbers(*point)} 9 9 9 0.5 " + " ".join(f"{photo} {feature}" for photo, feature, *_ in track)
        for i, (point, track) in enumerate(zip(points, tracks, strict=True), 1)
    ]
    nvms = [
        f"{numbers(*point)} 9 9 9 {len(track)} " + " ".join(f"{p - 1} {f} {x - 240} {y - 180}" for p, f, x, y in track)
        for point, track in zip(points, tracks, strict=True)
    ]
    (folder / "aachen_v_1_1").mkdir(parents=True)
    for file, lines in (("cameras", cameras), ("images", images), ("points3D", colmaps)):
        (folder / "aachen_v_1_1" / f"{file}.txt").write_text("\n".join(lines) + "\n")
    nvm = ["NVM_V3 ", "", str(len(rows)), *rows, "", str(len(nvms)), *nvms, "", "0"]
    (folder / "aachen_cvpr2018_db.nvm").write_text("\n".join(nvm) + "\n")
    (folder / "database_intrinsics.txt").write_text("".join(f"{name} {CAMERA}\n" for name in poses))


def run(*arguments):
    result = CliRunner().invoke(aachen.main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def done(dataset, tmp_path_factory):
    """The v1.1 benchmark with given pairs: its folder and its output."""
    out = tmp_path_factory.mktemp("done")
    arguments = ("--data", dataset, "--pairs", dataset / "pairs.txt", "--truth", dataset / "truth.txt", *OPTIONS)
    result = run(*arguments, "--out", out)
    assert result.exit_code == 0, result.output
    return out, result.output, (*arguments, "--out", out)


def test_by_day_and_at_night(dataset, done):
    out, said, _ = done
    content = json.loads((out / "results.json").read_text())
    assert content["title"] == "Aachen Day-Night v1.1" and len(content["rows"]) == 4
    cells = {}
    for line in filter(lambda line: line.startswith("|"), said.splitlines()):
        heading, *values = [cell.strip() for cell in line.strip("|").split("|")]
        cells.setdefault(heading, []).append(values)
    for light in ("day", "night"):
        counts, errors = cells[f"sift, {light}"]
        assert counts[:2] == ["2", "2"] and errors[:4] == ["2", "100.0", "100.0", "100.0"]
    assert float(cells["sift, day"][1][4]) < 0.03 and float(cells["sift, day"][1][5]) < 0.2
    assert cells["paper's TR"] == [["74.3", "89.0", "98.4"]]
    assert (out / "results.md").exists()


def test_the_submission_is_what_the_site_takes(done):
    rows = [row.split(" ") for row in (done[0] / "sift" / "submission.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == [name.split("/")[-1] for name in HELD]
    assert all(len(row) == 8 and abs(np.linalg.norm(np.array(row[1:5], float)) - 1) < 1e-9 for row in rows)


def test_known_poses_stay(dataset, done):
    data = open_dataset(dataset, "1.1")
    model = read_model(done[0] / "sift" / "map" / "sparse")
    assert len(model.points) > 200 and model.errors.mean() < 1.5
    for name, pose in data.model.images.items():
        np.testing.assert_allclose(model.images[name].rotation, pose.rotation, atol=1e-9)
        np.testing.assert_allclose(model.images[name].translation, pose.translation, atol=1e-9)
        assert model.cameras[model.images[name].camera_id] == data.model.cameras[pose.camera_id]


def test_only_the_given_images_are_matched(dataset, done):
    workspace, query = done[0] / "sift" / "map", next(iter(HELD))
    given = ["db/3.jpg", "db/none.jpg", "db/1.jpg"]
    found = Map(workspace).localize(dataset / "images" / "images_upright" / query, retrieved=given)
    assert found.retrieved == ("db/3.jpg", "db/1.jpg") and found.best_image in found.retrieved


def test_matches_that_contradict_the_poses_give_no_map(dataset, done, tmp_path):
    data, workspace = open_dataset(dataset, None), done[0] / "sift" / "map"
    poses = dict(list(data.model.images.items())[:3])
    with FeatureStore(workspace / "features.h5") as features, colmap.PairTable(workspace / "database.db") as table:
        rows = [(*pair, table.read(pair)) for pair in combinations(poses, 2)]

        def triangulate(poses):
            known, images, out = replace(data.model, images=poses), workspace / "images", tmp_path / "sparse"
            return colmap.triangulate(known, tmp_path / "database.db", images, out, features.read_keypoints, rows)

        assert triangulate(poses) > 30
        turned = {name: replace(pose, rotation=pose.rotation.T) for name, pose in poses.items()}
        with pytest.raises(TpsfmError, match="no map"):
            triangulate(turned)


def test_what_is_there_is_not_computed_again(done, monkeypatch):
    _, said, arguments = done
    monkeypatch.setattr(aachen, "build_map", pytest.fail)
    again = run(*arguments)
    assert again.exit_code == 0 and said.endswith(again.output[again.output.index("| |") :])
    assert run(*arguments, "--threads", 2).exit_code == 0
    assert "other options" in run(*arguments, "--seed", 1).output


def test_a_stopped_run_goes_on(done, tmp_path, monkeypatch):
    """With a row missing the map is opened, but nothing of it is made again."""
    out, _, arguments = done
    copy = tmp_path / "copy"
    shutil.copytree(out, copy, symlinks=True)
    content = json.loads((copy / "results.json").read_text())
    key, row = content["rows"].popitem()
    (copy / "results.json").write_text(json.dumps(content))
    monkeypatch.setattr(colmap, "triangulate", pytest.fail)
    assert run(*arguments[:-1], copy).exit_code == 0
    assert json.loads((copy / "results.json").read_text())["rows"][key]["pose"] == pytest.approx(row["pose"], abs=1e-6)


def test_v1_0_has_the_same_reference_as_nvm(dataset):
    new, old = open_dataset(dataset, None), open_dataset(dataset, "1.0")
    assert (new.version, old.version) == ("1.1", "1.0")
    assert list(new.model.images) == list(old.model.images)
    for name, pose in new.model.images.items():
        np.testing.assert_allclose(old.model.images[name].rotation, pose.rotation, atol=1e-9)
        np.testing.assert_allclose(old.model.images[name].translation, pose.translation, atol=1e-9)
        assert old.model.cameras[old.model.images[name].camera_id] == new.model.cameras[pose.camera_id]
        np.testing.assert_array_equal(np.sort(old.seen[name]), np.sort(new.seen[name]))
    assert len(old.model.cameras) == 1  # one for all photos that share their numbers
    np.testing.assert_array_equal(old.model.track_lengths, new.model.track_lengths)


def test_a_binary_reference_is_read_as_a_text_one(dataset, tmp_path):
    text = open_dataset(dataset, "1.1")
    shutil.copytree(dataset, tmp_path / "copy", ignore=lambda _, names: {"aachen_v_1_1", "images"} & {*names})
    (tmp_path / "copy" / "images_upright").symlink_to(dataset / "images" / "images_upright")
    colmap.to_binary(dataset / "3D-models" / "aachen_v_1_1", tmp_path / "copy" / "3D-models" / "aachen_v_1")
    binary = open_dataset(tmp_path / "copy", None)
    assert (binary.version, list(binary.model.images)) == ("1.0", list(text.model.images))
    for name, rows in text.seen.items():
        np.testing.assert_array_equal(binary.model.points[binary.seen[name]], text.model.points[rows])


def test_v1_0_with_our_own_retrieval_and_no_truth(dataset, tmp_path):
    result = run("--data", dataset, "--version", "1.0", *OPTIONS, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Accuracy" not in result.output
    row = next(line for line in result.output.splitlines() if line.startswith("| sift, day"))
    assert row.split("|")[2:4] == [" 2 ", " 2 "]


def test_accuracy_by_hand():
    pose = [1.0, 0, 0, 0, 0, 0, 0]
    half = np.radians(4) / 2  # turned by 4 degrees
    rows = {
        "query/a.jpg": {"pose": pose, "inliers": 9, "seconds": 1},
        "query/b.jpg": {"pose": [np.cos(half), 0, 0, np.sin(half), 0, 0, -0.3], "inliers": 7, "seconds": 2},
        "query/c.jpg": {"inliers": 0, "seconds": 3},
        "query/d.jpg": {"pose": pose, "inliers": 9, "seconds": 2},  # has no truth
    }
    truth = dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), aachen.to_pose(pose))
    line = aachen.summary(rows, truth)
    assert (line["queries"], line["localized"], line["with truth"]) == (4, 3, 3)
    assert [line[name] for name in aachen.WITHIN] == pytest.approx([100 / 3, 200 / 3, 200 / 3])
    assert line["median m"] == pytest.approx(0.3) and line["median °"] == pytest.approx(4)


def test_covisible_pairs_by_hand():
    seen = {"a": np.array([0, 1, 2]), "b": np.array([1, 2, 2]), "c": np.array([2]), "d": np.array([], int)}
    assert from_covisibility(seen, 1) == [("a", "b"), ("a", "c")]  # b has 2 points of a; c has 1 of a, 1 of b
    assert from_covisibility(seen) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert from_covisibility({}) == []


@pytest.mark.parametrize(
    "missing",
    [
        "images/images_upright",
        "images/images_upright/db/3.jpg",
        "images/images_upright/query/night/nexus5x/IMG_20161227_160705.jpg",
        "queries/night_time_queries_with_intrinsics.txt",
        "3D-models/aachen_v_1_1/images.txt",
        "3D-models/aachen_v_1_1/points3D.txt",
    ],
)
def test_a_wrong_layout_is_told(dataset, tmp_path, missing):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy, copy_function=lambda a, b: b and shutil.os.symlink(a, b))
    gone = copy / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    result = run("--data", copy, *OPTIONS, "--out", tmp_path / "out")
    assert result.exit_code == 1
    (line,) = result.output.strip().splitlines()
    assert str(gone) in line or (missing.endswith("points3D.txt") and str(gone.parent) in line)


def test_bad_files_are_told(dataset, tmp_path):
    with pytest.raises(TpsfmError, match=r"aachen_cvpr2018_db\.nvm is missing"):
        folder = tmp_path / "copy"
        shutil.copytree(dataset, folder, ignore=lambda _, names: {"aachen_v_1_1", "aachen_cvpr2018_db.nvm"} & {*names})
        open_dataset(folder, None)
    models = dataset / "3D-models"
    for text in ("", "NVM_V3\n\n3\na 1 1 0 0 0 0 0 0 0 0\n", (models / "aachen_cvpr2018_db.nvm").read_text()[:9000]):
        (tmp_path / "short.nvm").write_text(text)
        with pytest.raises(TpsfmError, match="damaged"):
            read_nvm(tmp_path / "short.nvm", models / "database_intrinsics.txt")
    for option, text in (("--pairs", "query/x.jpg db/0.jpg"), ("--truth", "a.jpg 1 0 0")):
        (tmp_path / "rows.txt").write_text(text)
        result = run("--data", dataset, option, tmp_path / "rows.txt", *OPTIONS, "--out", tmp_path / "out")
        assert result.exit_code == 1 and f"row 1 of {tmp_path / 'rows.txt'}" in result.output

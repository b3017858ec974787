"""Localization of photos that a map has not seen, against their known poses, and an honest no for all others."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import tpsfm
from tpsfm import colmap
from tpsfm.cli import main
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.localization import localization_errors
from tpsfm.evaluation.poses import load_poses
from tpsfm.images import read_image
from tpsfm.localization.extend import Extension
from tpsfm.localization.intrinsics import parse_camera
from tpsfm.localization.landmarks import Landmarks, Matches, best_point_each, covisible_groups
from tpsfm.localization.pose import COMMON_TURN, DEPENDENT, objection, occupied_cells, uncertainty, with_map_errors
from tpsfm.localization.queries import list_queries
from tpsfm.localization.results import read_queries
from tpsfm.model import Camera, Pose, quaternion, read_model, read_observations
from tpsfm.progress import Quiet
from tpsfm.store import FeatureStore

HELD = ("view_002.jpg", "view_007.jpg")
OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1}


@pytest.fixture(scope="module")
def scene(courtyard, tmp_path_factory):
    """A map of eight photos in `map`, the two others in `queries`."""
    out = tmp_path_factory.mktemp("localization")
    for folder in ("db", "queries"):
        (out / folder).mkdir()
    for photo in sorted((courtyard / "images").iterdir()):
        shutil.copy(photo, out / ("queries" if photo.name in HELD else "db"))
    shutil.copy(courtyard / "gt.json", out)
    tpsfm.reconstruct(out / "db", out / "map", **OPTIONS)
    return out


@pytest.fixture(scope="module")
def loaded(scene):
    return tpsfm.Map(scene / "map")


def errors(scene, loaded, results):
    truth = load_poses(scene / "gt.json")
    return localization_errors(truth, loaded.model.images, {result.name: result.pose for result in results})


def command(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def noise(shape=(360, 480)) -> np.ndarray:
    rng = np.random.default_rng(5)
    return cv2.resize(rng.integers(0, 255, (shape[0] // 5, shape[1] // 5), np.uint8), shape[::-1])


def test_held_out_photos_are_found_within_centimetres(scene, loaded):
    results = [loaded.localize(scene / "queries" / name) for name in HELD]
    metres, degrees = errors(scene, loaded, results)
    assert max(metres) < 0.05 and max(degrees) < 0.2
    for result in results:
        assert (result.status, result.reason, result.camera_source) == ("localized", "", "map")
        assert result.inliers > 100 and result.ratio > 0.5
        assert 0 < result.position_uncertainty < 0.1 and 0 < result.rotation_uncertainty < 0.5
        assert result.covariance.shape == (6, 6)
        assert set(result.retrieved) == set(loaded.model.images) and result.best_image in result.retrieved
        assert {"read", "extract", "retrieve", "match", "pose"} == set(result.seconds)


def test_an_unknown_camera_is_estimated(scene, loaded):
    result = loaded.localize(read_image(scene / "queries" / HELD[0]), name=HELD[0])
    metres, degrees = errors(scene, loaded, [result])
    assert result.camera_source == "estimated"
    assert abs(result.camera.params[0] / (28 / 36 * 480) - 1) < 0.05
    assert metres[0] < 0.3 and degrees[0] < 1


def test_a_size_the_map_has_not_seen_is_estimated_too(scene, loaded):
    """Only the sweep over focal lengths can know this one."""
    smaller = cv2.resize(read_image(scene / "queries" / HELD[0]), (432, 324), interpolation=cv2.INTER_AREA)
    result = loaded.localize(smaller, name=HELD[0])
    assert result.camera_source == "estimated"
    assert abs(result.camera.params[0] / (28 / 36 * 432) - 1) < 0.05


def test_exif_that_lies_is_not_believed(scene, loaded, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "another", "camera"
    exif.get_ifd(0x8769)[0xA405] = 110  # mm, where it was 28
    Image.fromarray(read_image(scene / "queries" / HELD[0])).save(tmp_path / HELD[0], quality=95, exif=exif)
    result = loaded.localize(tmp_path / HELD[0])
    assert result.status == "localized"
    assert abs(result.camera.params[0] / (28 / 36 * 480) - 1) < 0.05


def test_a_given_camera_is_taken_as_it_is(scene, loaded):
    camera = Camera("PINHOLE", 480, 360, [373.3, 373.3, 240, 180])
    result = loaded.localize(read_image(scene / "queries" / HELD[0]), camera)
    assert result.camera_source == "given" and result.camera == camera
    other = loaded.localize(read_image(scene / "queries" / HELD[0]), replace(camera, width=640))
    assert other.status == "failed" and "640x360" in other.reason


def test_other_pictures_get_no_pose(loaded, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    blank = loaded.localize(np.full((360, 480), 90, np.uint8))
    foreign = loaded.localize(noise())
    broken = loaded.localize(tmp_path / "broken.jpg")
    for result in (blank, foreign, broken):
        assert result.status == "failed" and result.pose is None and result.camera is None
    assert "no keypoints" in blank.reason
    assert re.search("matches", foreign.reason)
    assert "broken.jpg" in broken.reason


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((9, 9), float), np.zeros((9, 9, 3), np.uint16), np.zeros((9, 9, 4), np.uint8), np.zeros(9, np.uint8)],
)
def test_what_is_no_image_is_refused(pixels, loaded):
    with pytest.raises(TpsfmError, match=r"uint8 \[H, W, 3\]"):
        loaded.localize(pixels)


def test_many_threads_read_one_map(scene, loaded):
    alone = loaded.localize(scene / "queries" / HELD[0])
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: loaded.localize(scene / "queries" / HELD[0]), range(4)))
    for result in together:
        assert result.inliers == alone.inliers
        np.testing.assert_allclose(result.pose.translation, alone.pose.translation, atol=1e-9)


@pytest.fixture(scope="module")
def session(scene, tmp_path_factory):
    """Two good queries in a subfolder, one foreign with a wicked name, one broken: the results' folder and output."""
    out = tmp_path_factory.mktemp("session")
    (out / "night" / "phone").mkdir(parents=True)
    for name in HELD:
        shutil.copy(scene / "queries" / name, out / "night" / "phone")
    cv2.imwrite(str(out / "night" / "<b>x & y.png"), noise())
    (out / "night" / "broken.jpg").write_bytes(b"no image")
    status, said = command("localize", "--query", out / "night", "--map", scene / "map", "--out", out / "results")
    return out, status, said


def test_a_session_goes_on_past_bad_queries(session):
    out, status, said = session
    assert status == 3
    assert "2 of 4 photos" in said and "broken.jpg" in said
    rows = [row.split(" ") for row in (out / "results" / "poses.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == [f"phone/{name}" for name in HELD]
    entries = {entry["name"]: entry for entry in json.loads((out / "results/localization.json").read_text())["results"]}
    assert len(entries) == 4
    for name, *numbers in rows:
        pose = entries[name]["pose"]
        assert np.allclose(np.array(numbers, float), pose["quaternion_wxyz"] + pose["translation"])
        assert entries[name]["position_uncertainty"] > 0 and entries[name]["retrieved"]
    assert entries["broken.jpg"]["pose"] is None and entries["broken.jpg"]["reason"]


def test_the_page_needs_nothing_else(session):
    page = (session[0] / "results" / "localization.html").read_text()
    assert "&lt;b&gt;x &amp; y.png" in page and "<b>x" not in page
    assert page.count("data:image/jpeg;base64,") >= 3
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)


def test_results_are_viewed_with_the_map(session, scene, tmp_path):
    queries, folder = read_queries(session[0] / "results")
    assert sorted(queries.images) == [f"phone/{name}" for name in HELD]
    assert folder == (session[0] / "night").resolve()
    assert queries.cameras[queries.images[f"phone/{HELD[0]}"].camera_id].width == 480
    with pytest.raises(TpsfmError, match="run 'tpsfm localize'"):
        read_queries(tmp_path)
    content = json.loads((session[0] / "results" / "localization.json").read_text())
    entry = next(entry for entry in content["results"] if entry["pose"])
    for part, change in (
        ("camera", {"model": "NONE"}),
        ("camera", {"params": [1]}),
        ("camera", {"width": "six"}),
        ("pose", {"translation": [float("nan")] * 3}),
    ):
        damaged = {**content, "results": [{**entry, part: {**entry[part], **change}}]}
        (tmp_path / "localization.json").write_text(json.dumps(damaged))
        with pytest.raises(TpsfmError, match="is damaged"):
            read_queries(tmp_path)
    (tmp_path / "localization.json").unlink()
    assert command("view", scene / "map", "--queries", tmp_path, "--snapshot", tmp_path / "a.png")[0] == 1


def test_exit_status_and_the_last_map(scene, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    good = scene / "queries" / HELD[0]
    status, said = command("localize", "--query", good)
    assert status == 1 and "--map" in said
    from tpsfm.workspace import remember_map

    remember_map(scene / "map")
    status, said = command("localize", "--query", good, "--out", "found")
    assert status == 0 and f"{scene / 'map'}, the last one" in said
    cv2.imwrite("foreign.png", noise())
    assert command("localize", "--query", "foreign.png", "--out", "none")[0] == 1
    assert (tmp_path / "none" / "poses.txt").read_text() == ""


def test_extending_leaves_the_map_alone(scene, tmp_path):
    before = {path: path.read_bytes() for path in (scene / "map").rglob("*") if path.is_file()}
    status, said = command("localize", "--query", scene / "queries", "--map", scene / "map", "--out", tmp_path, "--add")
    assert status == 0, said
    assert {path: path.read_bytes() for path in (scene / "map").rglob("*") if path.is_file()} == before
    old, new = read_model(scene / "map" / "sparse"), read_model(tmp_path / "map" / "sparse")
    added = [f"added/{name}" for name in HELD]
    assert sorted(set(new.images) - set(old.images)) == added and set(old.images) < set(new.images)
    assert len(new.points) > len(old.points)
    assert all(new.images[name].observations > 100 for name in added)
    for name in old.images:  # the same frame
        assert np.linalg.norm(new.images[name].center - old.images[name].center) < 0.05
    truth = load_poses(scene / "gt.json")
    metres, _ = localization_errors(truth, old.images, {name: new.images[f"added/{name}"] for name in HELD})
    assert max(metres) < 0.05
    again = tpsfm.Map(tmp_path / "map").localize(scene / "queries" / HELD[0])
    assert again.status == "localized" and again.retrieved[0] == added[0]
    with pytest.raises(TpsfmError, match="is the map itself"):
        tpsfm.localize(scene / "queries", tmp_path / "map", tmp_path, add=True)


def test_an_extension_replaces_only_an_earlier_one(scene, tmp_path):
    shutil.copytree(scene / "map", tmp_path / "map")
    with pytest.raises(TpsfmError, match="another map"):
        tpsfm.localize(scene / "queries", scene / "map", tmp_path, add=True)
    assert (tmp_path / "map" / "features.h5").read_bytes() == (scene / "map" / "features.h5").read_bytes()

    loaded = tpsfm.Map(scene / "map")
    first = Extension(loaded, tmp_path / "new")
    with pytest.raises(TpsfmError, match="in use"):
        Extension(loaded, tmp_path / "new")
    assert first.finish(Quiet()) is None
    assert not (tmp_path / "new").exists()

    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert Extension(loaded, tmp_path / "link").finish(Quiet()) is None
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").touch()
    with pytest.raises(TpsfmError, match="name a new folder"):
        Extension(loaded, tmp_path / "foreign")


def test_an_interruption_keeps_what_is_done(scene, loaded, tmp_path):
    class Impatient(Quiet):
        @contextmanager
        def bar(self, label, total=None):
            def stop(done, total):
                raise KeyboardInterrupt

            yield stop

    with pytest.raises(KeyboardInterrupt):
        tpsfm.localize(scene / "queries", loaded, tmp_path, progress=Impatient())
    assert (tmp_path / "poses.txt").read_text().startswith(HELD[0])
    assert [entry["name"] for entry in json.loads((tmp_path / "localization.json").read_text())["results"]] == [HELD[0]]


def test_a_map_may_be_moved_but_not_mixed_up(scene, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(scene / "map", moved)
    run = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps({**run, "images": str(tmp_path / "gone")}))
    assert tpsfm.Map(moved).localize(scene / "queries" / HELD[0]).camera_source == "exif"

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


def test_no_map_and_an_empty_one(scene, tmp_path):
    with pytest.raises(TpsfmError, match="not a workspace"):
        tpsfm.Map(tmp_path)
    empty = tmp_path / "empty"
    shutil.copytree(scene / "map", empty)
    for file in ("images.bin", "points3D.bin"):
        (empty / "sparse" / file).write_bytes(bytes(8))
    with pytest.raises(TpsfmError, match="its map is empty"):
        tpsfm.Map(empty)
    shutil.copytree(scene / "map" / "sparse", empty / "sparse", dirs_exist_ok=True)
    (empty / "sparse" / "cameras.bin").write_bytes(bytes(8))
    with pytest.raises(TpsfmError, match=r"cameras\.bin.*lacks"):
        tpsfm.Map(empty)


def test_a_list_with_intrinsics(tmp_path):
    path = tmp_path / "night.txt"
    path.write_text(
        "# name MODEL width height params\n\nquery/a b.jpg SIMPLE_RADIAL 1600 1200 1450.5 800 600 -0.02\nplain.jpg\n"
    )
    root, queries = list_queries(path)
    assert root == tmp_path and [query.name for query in queries] == ["query/a b.jpg", "plain.jpg"]
    assert queries[0].camera == Camera("SIMPLE_RADIAL", 1600, 1200, [1450.5, 800, 600, -0.02])
    assert queries[1].camera is None
    with pytest.raises(TpsfmError, match="no folder"):
        list_queries(path, tmp_path / "images")
    (tmp_path / "images").mkdir()
    assert list_queries(path, tmp_path / "images")[0] == tmp_path / "images"


@pytest.mark.parametrize(
    "row",
    [
        "a.jpg SIMPLE_RADIAL 1600 1200 1450 800 600",
        "a.jpg NO_MODEL 1600 1200 1450 800 600",
        "a.jpg PINHOLE 1600 1200 0 1450 800 600",
        "a.jpg PINHOLE 1600 1200 1450 1450 800 six",
        "a.jpg 1600 1200",
        "first.jpg",
        "./first.jpg",
        "../a.jpg",
        "/a.jpg PINHOLE 1600 1200 1450 1450 800 600",
        "a\0.jpg",
        "long name " * 100,
    ],
)
def test_a_bad_row_is_named_by_its_number(row, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"first.jpg\n\n{row}\n")
    with pytest.raises(TpsfmError, match=f"row 3 of {path}"):
        list_queries(path)


def test_other_bad_queries(tmp_path):
    for name in ("missing.jpg", "missing.txt", "long" * 100):
        with pytest.raises(TpsfmError, match=name):
            list_queries(tmp_path / name)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(TpsfmError, match="names no query"):
        list_queries(tmp_path / "empty.txt")
    assert parse_camera("PINHOLE, 5, 6, 1, 2") == ("PINHOLE", [5.0, 6.0, 1.0, 2.0])
    with pytest.raises(TpsfmError, match="PINHOLE takes 4 numbers"):
        parse_camera("PINHOLE,5,6,1")


@pytest.mark.parametrize("refine", [False, True])
def test_the_covariance_is_that_of_repeated_measurements(refine):
    """Poses from 150 draws of the same noise: their spread, and how often the truth is inside."""
    rng = np.random.default_rng(0)
    camera = Camera("SIMPLE_RADIAL", 1000, 800, [900, 500, 400, 0.0])
    points = rng.uniform([-4, -3, 4], [4, 3, 12], (150, 3))
    pose = Pose(0, cv2.Rodrigues(np.array([0.1, -0.2, 0.3]))[0], np.array([0.3, -0.2, 0.5]))
    seen = points @ pose.rotation.T + pose.translation
    pixels = 900 * seen[:, :2] / seen[:, 2:] + (499.5, 399.5)
    motions, reported, inside = [], [], []
    for _ in range(150):
        found = colmap.absolute_pose(pixels + rng.normal(0, 1, pixels.shape), points, camera, 6.0, refine)
        turn = cv2.Rodrigues(found.pose.rotation @ pose.rotation.T)[0][:, 0]
        motions.append([*turn, *(found.pose.translation - pose.translation)])
        reported.append(np.sqrt(np.diag(found.covariance)))
        position, rotation = uncertainty(found.pose, found.covariance)
        inside.append(
            [np.linalg.norm(found.pose.center - pose.center) < position, np.degrees(np.linalg.norm(turn)) < rotation]
        )
        assert found.inliers.all()
        assert (found.camera.params[0] != 900) == refine
    ratio = np.std(motions, axis=0) / np.mean(reported, axis=0)
    assert ((ratio > 0.8) & (ratio < 1.2)).all()
    assert (np.mean(inside, axis=0) > 0.9).all() and (np.mean(inside, axis=0) < 0.995).all()


def test_what_the_map_has_wrong_turns_the_camera_in_its_place():
    pose = Pose(0, cv2.Rodrigues(np.array([0.3, 0.1, -0.2]))[0], np.array([1.0, -2.0, 3.0]))
    position, rotation = uncertainty(pose, with_map_errors(pose, np.zeros((6, 6)), np.radians(1)))
    assert position < 1e-6
    assert rotation == pytest.approx(
        COMMON_TURN * np.sqrt(7.815), rel=0.02
    )  # 95 % of chi-squared, 3 degrees of freedom
    alone = uncertainty(pose, np.eye(6))
    assert uncertainty(pose, with_map_errors(pose, np.eye(6), 0.0)) == pytest.approx(
        np.sqrt(DEPENDENT) * np.array(alone)
    )


def test_what_makes_a_pose_doubtful():
    assert not objection(inliers=200, matches=1000, occupied=60)
    assert "10 of 100" in objection(inliers=10, matches=100, occupied=60)
    assert "small part" in objection(inliers=200, matches=1000, occupied=3)
    assert "%" in objection(inliers=60, matches=8000, occupied=60)
    camera = Camera("PINHOLE", 1200, 600, [1, 1, 1, 1])
    keypoints = np.array([[0, 0], [99, 99], [101, 99], [1199, 599]])
    assert occupied_cells(keypoints, camera) == 3


def landmarks(*images) -> Landmarks:
    """Landmarks of images given by their points."""
    starts = np.cumsum([0, *map(len, images)])
    points = np.concatenate(images).astype(np.int32)
    names = [str(number) for number in range(len(images))]
    return Landmarks(names, starts, points, np.zeros((len(points), 2)), torch.zeros(len(points), 4))


def test_images_that_share_points_are_grouped():
    place, elsewhere = np.arange(20), np.arange(100, 120)
    together = landmarks(place, elsewhere, place[10:], elsewhere[5:], [*place[:2], *elsewhere[:2]])
    assert covisible_groups(together, [3, 0, 2, 1, 4]) == [[3, 1], [0, 2], [4]]
    assert covisible_groups(together, []) == []


def test_a_keypoint_takes_the_point_that_most_images_gave_it():
    seen = landmarks([7, 8], [7, 9], [9])
    matches = Matches(
        keypoints=np.array([5, 5, 5, 6, 6]),
        landmarks=np.array([0, 2, 1, 3, 1]),  # points 7, 7, 8; 9, 8
        images=np.array([0, 1, 0, 1, 0]),
        similarity=np.array([0.5, 0.6, 0.9, 0.7, 0.8], np.float32),
    )
    chosen = best_point_each(matches, seen.points)
    assert chosen.keypoints.tolist() == [5, 6]
    assert seen.points[chosen.landmarks].tolist() == [7, 8]
    assert chosen.similarity.tolist() == pytest.approx([0.6, 0.8])


def test_observations_belong_to_points(scene):
    model, seen = read_model(scene / "map" / "sparse"), read_observations(scene / "map" / "sparse")
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


def test_quaternions():
    for turn in ([0, 0, 0], [0.3, -0.2, 0.9], [0, np.pi - 1e-3, 0]):
        angle = np.linalg.norm(turn)
        axis = np.array(turn) / max(angle, 1e-12)
        expected = [np.cos(angle / 2), *(np.sin(angle / 2) * axis)]
        np.testing.assert_allclose(quaternion(cv2.Rodrigues(np.array(turn, float))[0]), expected, atol=1e-9)

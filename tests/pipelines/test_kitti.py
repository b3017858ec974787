"""Visual odometry on synthetic points with known paths, and on a rendered drive in exactly KITTI's layout."""

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipelines import kitti
from pipelines.kitti import ORB
from pipelines.odometry import Odometry
from tpsfm.colmap.adjustment import adjust
from tpsfm.demo.dataset import render_scene
from tpsfm.demo.rendering import View, look_at
from tpsfm.evaluation.trajectory import absolute_errors, align_trajectory, read_trajectory, rmse, write_trajectory
from tpsfm.features import Features
from tpsfm.geometry import Camera
from tpsfm.photos import read_image

CAMERA = Camera("PINHOLE", 640, 240, [400.0, 400.0, 320.0, 120.0])


@pytest.fixture(scope="module")
def street():
    """Points [P, 3] beside and above a road that leads ahead, with a descriptor [P, 32] each."""
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-12, 12, 3000), rng.uniform(-4, 2, 3000), rng.uniform(2, 80, 3000)]
    descriptors = rng.normal(size=(3000, 32)).astype(np.float32)
    return points, descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def drive(frames, stop=()):
    """A bend at a metre a frame, float64 [N, 4, 4] camera to world; the car stands in the frames of `stop`."""
    poses, pose = [], np.eye(4)
    for i in range(frames):
        poses.append(pose)
        if i not in stop:
            step = np.eye(4)
            step[:3, :3] = cv2.Rodrigues(np.array([0, 0.01, 0]))[0]
            step[2, 3] = 1
            pose = pose @ step
    return np.stack(poses)


def seen(street, pose, noise=0.2):
    """The features of the points in front of a camera."""
    points, descriptors = street
    world = np.linalg.inv(pose)
    local = points @ world[:3, :3].T + world[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = local[:, :2] / local[:, 2:] * 400 + [320, 120]
    inside = (local[:, 2] > 1) & (xy > 0).all(1) & (xy < [640, 240]).all(1)
    rng = np.random.default_rng(len(xy))
    keypoints = (xy[inside] + rng.normal(scale=noise, size=(inside.sum(), 2))).astype(np.float32)
    return Features(keypoints, np.ones(inside.sum(), np.float32), descriptors[inside], (640, 240))


def follow(street, truth, missing=()):
    odometry = Odometry(CAMERA)
    for i, pose in enumerate(truth):
        odometry.add(Features.empty(32, (640, 240)) if i in missing else seen(street, pose))
    return odometry


def test_a_bend_is_followed(street):
    truth = drive(24)
    odometry = follow(street, truth)
    path = odometry.path()
    assert odometry.lost == 0
    np.testing.assert_allclose(path[0], np.eye(4), atol=1e-12)
    errors = absolute_errors(truth, align_trajectory(truth, path, "sim3"))
    assert rmse(errors) < 0.05  # of 23 metres


def test_a_stop_makes_no_keyframes(street):
    odometry = follow(street, drive(18, stop=range(6, 12)))
    moving = follow(street, drive(12))
    assert odometry.map.keyframes == moving.map.keyframes
    positions = odometry.path()[:, :3, 3]
    step = np.linalg.norm(positions[1] - positions[0])
    assert np.linalg.norm(np.diff(positions[6:13], axis=0), axis=1).max() < 0.02 * step


def test_what_is_missed_is_driven_on(street):
    """Frames without features keep the speed, are counted, and the path goes on after them."""
    truth = drive(20)
    odometry = follow(street, truth, missing=(8, 9))
    assert odometry.lost >= 2
    path = odometry.path()
    assert len(path) == 20
    aligned = align_trajectory(truth, path, "sim3")
    assert rmse(absolute_errors(truth, aligned)) < 0.5
    assert follow(street, truth[:3], missing=(0, 1, 2)).path().shape == (3, 4, 4)


def test_adjustment_finds_the_true_poses_despite_outliers():
    rng = np.random.default_rng(0)
    truth = np.stack([np.linalg.inv(pose)[:3] for pose in drive(5)])
    points = np.c_[rng.uniform(-5, 5, 200), rng.uniform(-2, 2, 200), rng.uniform(12, 30, 200)]
    local = np.einsum("vij,pj->vpi", truth[:, :, :3], points) + truth[:, None, :, 3]
    keypoints = (local[..., :2] / local[..., 2:] * 400 + [320, 120]).reshape(-1, 2)
    keypoints[::41] += 30
    views, tracks = np.divmod(np.arange(len(keypoints)), 200)
    shaken = truth.copy()
    shaken[2:, :, 3] += rng.normal(scale=0.1, size=(3, 3))
    start = points + rng.normal(scale=0.2, size=points.shape)
    poses, found = adjust(CAMERA, shaken, start, views, tracks, keypoints, iterations=50)
    np.testing.assert_allclose(poses[:2], truth[:2], atol=1e-12)
    np.testing.assert_allclose(poses, truth, atol=2e-3)  # 0.1 before
    assert np.median(np.linalg.norm(found - points, axis=1)) < 0.01


def test_the_cosine_of_orb_is_its_hamming_distance(photo):
    features = ORB(max_keypoints=200).extract(photo)
    assert 0 < len(features) <= 200
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, rtol=1e-6)
    bits = np.packbits(features.descriptors > 0, axis=1)
    hamming = np.unpackbits(bits[0] ^ bits[1]).sum()
    np.testing.assert_allclose(features.descriptors[0] @ features.descriptors[1], 1 - 2 * hamming / 256, atol=1e-6)
    assert not len(ORB().extract(np.full((64, 64), 90, np.uint8)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight rendered frames of a drive towards a courtyard in sequences/00 and its true path in poses/00.txt."""
    root = tmp_path_factory.mktemp("kitti")
    size = (400, 200)
    K = np.array([[280.0, 0, 199.5], [0, 280, 99.5], [0, 0, 1]])
    views = {}
    for i in range(8):
        centre = np.array([-2.0 + 0.25 * i, -11 + 0.3 * i, 1.7])
        views[f"{i:06d}.png"] = View(K, look_at(centre, [0.1 * i, 0, 2.2]), centre, size)
    colour = render_scene(root / "rendered", size=size, cameras=views)
    folder = root / "sequences" / "00"
    (folder / "image_0").mkdir(parents=True)
    for name in views:
        Image.open(colour / name).convert("L").save(folder / "image_0" / name)
    projection = np.c_[K, np.zeros(3)].ravel()
    lines = [f"P{i}: " + " ".join(f"{number:.12e}" for number in projection) for i in range(4)]
    (folder / "calib.txt").write_text("\n".join(lines) + "\n")
    (folder / "times.txt").write_text("".join(f"{0.1 * i:.6e}\n" for i in range(8)))
    poses = np.tile(np.eye(4), (8, 1, 1))
    for pose, view in zip(poses, views.values(), strict=True):
        pose[:3, :3], pose[:3, 3] = view.R.T, view.C
    (root / "poses").mkdir()
    write_trajectory(root / "poses" / "00.txt", np.linalg.inv(poses[0]) @ poses)
    return root


@pytest.fixture(scope="module")
def photo(data):
    return read_image(data / "sequences" / "00" / "image_0" / "000000.png")


def run(*arguments):
    return CliRunner().invoke(kitti.main, [str(argument) for argument in arguments])


def test_a_rendered_drive(data, tmp_path, monkeypatch):
    arguments = ("--data", data, "--sequence", "00", "--features", "sift", "--features", "orb", "--out", tmp_path)
    done = run(*arguments, "--max-keypoints", 800)
    assert done.exit_code == 0, done.output
    truth = read_trajectory(data / "poses" / "00.txt")
    errors = {}
    for name, limit in {"sift": 0.03, "sift, aligned": 0.02, "orb": 0.3, "orb, aligned": 0.2}.items():  # of 2.7 metres
        path = read_trajectory(tmp_path / name.replace(", ", "-") / "00.txt")
        errors[name] = rmse(absolute_errors(truth, align_trajectory(truth, path, "sim3")))
        assert errors[name] < limit
        assert f"| {name} 00 | 8 | 0 | 3 | {errors[name]:.3f} |" in done.output
    assert errors["sift, aligned"] < 0.85 * errors["sift"]
    assert "alignment 'sim3'" in done.output and "| paper's TR | 7.07 |" in done.output
    assert (tmp_path / "results.md").exists()
    assert (tmp_path / "00.svg").read_text().count("<polyline") == 5
    monkeypatch.setattr(kitti, "drive", lambda *_: pytest.fail("measured again"))  # what is there is not computed again
    again = run(*arguments, "--max-keypoints", 800)
    assert again.exit_code == 0 and done.output.endswith(again.output)


def test_a_folder_of_its_own_and_no_truth(data, tmp_path):
    folder = tmp_path / "drive"
    (folder / "image_0").mkdir(parents=True)
    for image in sorted((data / "sequences" / "00" / "image_0").iterdir())[:4]:
        (folder / "image_0" / image.name).write_bytes(image.read_bytes())
    calibration = (data / "sequences" / "00" / "calib.txt").read_text()
    (folder / "calib.txt").write_text(calibration.splitlines()[0].removeprefix("P0: "))
    done = run("--data", folder, "--features", "sift", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "| sift drive | 4 | 0 | – | – |" in done.output
    assert len(read_trajectory(tmp_path / "out" / "sift" / "drive.txt")) == 4


def test_a_wrong_layout_is_told(data, tmp_path):
    def message(folder, *more):
        done = run("--data", folder, "--features", "sift", "--out", tmp_path / "out", *more)
        assert done.exit_code == 1
        (line,) = done.output.strip().splitlines()
        return line

    assert str(tmp_path / "sequences") in message(tmp_path)
    assert str(data / "sequences" / "07" / "image_0") in message(data, "--sequence", "07")
    folder = tmp_path / "drive"
    (folder / "image_0").mkdir(parents=True)
    Image.new("L", (64, 48)).save(folder / "image_0" / "000000.png")
    assert str(folder / "calib.txt") in message(folder)
    (folder / "calib.txt").write_text("P0: one two")
    assert str(folder / "calib.txt") in message(folder)
    (folder / "calib.txt").write_text("P0: 50 0 32 0 0 50 24 0 0 0 1 0")
    write_trajectory(folder / "poses.txt", np.tile(np.eye(4), (2, 1, 1)))
    assert "2 poses for 1 frames" in message(folder)

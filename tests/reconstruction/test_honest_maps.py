"""A map is not claimed where there is none: photos from one point, photos without overlap, two photos, two models."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

import tpsfm
from tests.support.localizing import command, noise
from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import aligned_errors, load_poses

OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1}


def photos_of(courtyard, folder, *numbers: int) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        shutil.copy(courtyard / "images" / f"view_{number:03d}.jpg", folder)


def turned_from(photo, folder, turns) -> None:
    """Photos that a camera would take from the place of another, turned by degrees (yaw, pitch)."""
    image = np.asarray(Image.open(photo))
    size = image.shape[1::-1]
    camera = np.array([[28 / 36 * size[0], 0, size[0] / 2], [0, 28 / 36 * size[0], size[1] / 2], [0, 0, 1]])
    longer = camera.copy()
    longer[[0, 1], [0, 1]] *= 1.7
    folder.mkdir(exist_ok=True)
    for number, (yaw, pitch) in enumerate(turns):
        turn = cv2.Rodrigues(np.radians([pitch, yaw, 0.0]))[0]
        seen = cv2.warpPerspective(image, longer @ turn @ np.linalg.inv(camera), size, flags=cv2.INTER_AREA)
        Image.fromarray(seen).save(folder / f"turned {number}.jpg", quality=95)


TURNS = [(-8, 0), (-4, 3), (0, -2), (4, 2), (8, 0)]


def test_photos_from_one_point_are_told_to_move(courtyard, tmp_path):
    turned_from(courtyard / "images/view_004.jpg", tmp_path / "photos", TURNS)
    status, told = command(
        "reconstruct", tmp_path / "photos", tmp_path / "map", "--features", "sift", "--max-keypoints", 1000
    )
    (error,) = (line for line in told.splitlines() if line.startswith("Error: "))
    assert status == 1
    assert (
        error == "Error: no map: the photos were taken from one point; a map needs you to move sideways between photos"
    )
    assert "taken from one point with turned" in command("info", tmp_path / "map")[1]


def test_photos_from_one_point_beside_others_are_named(courtyard, tmp_path):
    photos_of(courtyard, tmp_path / "photos", 1, 2, 3, 4)
    turned_from(courtyard / "images/view_004.jpg", tmp_path / "photos", TURNS[1:4])
    workspace = tpsfm.reconstruct(tmp_path / "photos", tmp_path / "map", **OPTIONS)
    told = command("info", workspace.root)[1]
    report = workspace.report.read_text()
    model = read_model(workspace.sparse)
    assert {f"view_{i:03d}.jpg" for i in (1, 2, 3, 4)} <= set(model.images)
    for number in range(3):
        assert f"turned {number}.jpg" in told and "from one point" in told
        assert f"turned {number}.jpg" in report.split("Registered (")[0]
    truth = load_poses(courtyard / "gt.json")
    known = {name: truth[name] for name in model.images if name in truth}
    assert np.median(aligned_errors(known, {name: model.images[name] for name in known})[0]) < 0.1


def test_a_run_without_a_map_leaves_none(courtyard, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "map"
    photos_of(courtyard, photos, 2, 3, 4)
    workspace = tpsfm.reconstruct(photos, out, **OPTIONS)
    assert read_model(workspace.sparse).images and workspace.patches.exists()
    shutil.rmtree(photos)
    photos.mkdir()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        Image.fromarray(np.kron(rng.integers(0, 255, (24, 32), np.uint8), np.ones((15, 15), np.uint8))).save(
            photos / f"new {seed}.png"
        )
    with pytest.raises(TpsfmError, match="no map"):
        tpsfm.reconstruct(photos, out, **OPTIONS)
    assert not any(path.exists() for path in (workspace.sparse, workspace.mapped, workspace.points, workspace.patches))
    report = workspace.report.read_text()
    assert "No map of photos" in report and "new 0.png" in report and "view_002.jpg" not in report
    for arguments in (
        ("view", out, "--snapshot", tmp_path / "s.png"),
        ("export", out, "--format", "ply", "--to", tmp_path / "e.ply"),
        ("localize", "--query", photos, "--map", out, "--out", tmp_path / "results"),
    ):
        status, told = command(*arguments)
        assert status == 1 and "there is no map yet" in told
    told = command("info", out)[1]
    assert "no map yet" in told and "align" not in told and "view_002.jpg" not in told


def test_a_banner_over_all_photos_is_left_out_and_told(courtyard, tmp_path):
    banner = Image.fromarray(np.dstack([noise((70, 480))] * 3))
    (tmp_path / "photos").mkdir()
    for path in sorted((courtyard / "images").iterdir())[:6]:
        photo = Image.open(path)
        exif = photo.getexif()
        photo.paste(banner, (0, 290))
        photo.save(tmp_path / "photos" / path.name, quality=95, exif=exif)
    status, told = command("reconstruct", tmp_path / "photos", tmp_path / "map", "--features", "sift")
    assert status == 0, told
    assert "overlay             the same in 6 photos" in told and "warning: something lies over 6 photos" in told
    assert "Something lies over 6 photos" in (tmp_path / "map/report.html").read_text()
    images = read_model(tmp_path / "map/sparse").images
    truth = {name: pose for name, pose in load_poses(courtyard / "gt.json").items() if name in images}
    assert len(images) == 6 and aligned_errors(truth, images)[0].max() < 0.05


def test_two_photos_make_a_map(courtyard, tmp_path):
    photos_of(courtyard, tmp_path / "photos", 3, 4)
    photos_of(courtyard, tmp_path / "query", 2)
    workspace = tpsfm.reconstruct(tmp_path / "photos", tmp_path / "map", **OPTIONS)
    model = read_model(workspace.sparse)
    assert len(model.images) == 2 and len(model.points) > 100
    assert model.errors.mean() < 0.5
    result = tpsfm.Map(workspace.root).localize(tmp_path / "query" / "view_002.jpg")
    assert result.pose is not None


@pytest.fixture(scope="module")
def two_models(courtyard, tmp_path_factory):
    """Two halves whose photos are matched among themselves alone, and a photo of something else."""
    root = tmp_path_factory.mktemp("two")
    photos_of(courtyard, root / "photos", *range(7))
    Image.fromarray(noise()).save(root / "photos" / "noise.png")
    halves = [[f"view_{i:03d}.jpg" for i in half] for half in ((0, 1, 2, 3), (4, 5, 6))]
    rows = [f"{a}\t{b}\n" for half in halves for a in half for b in half if a < b]
    (root / "pairs.txt").write_text("".join(rows) + "noise.png\tview_000.jpg\n")
    photos_of(courtyard, root / "query", 5)
    tpsfm.reconstruct(root / "photos", root / "map", pairs="file", pairs_file=root / "pairs.txt", **OPTIONS)
    return root, halves


def test_photos_of_another_model_are_not_left_out(two_models):
    root, halves = two_models
    told = command("info", root / "map")[1]
    assert [line for line in told.splitlines() if line.endswith("in model 1")] == [
        f"  {name}: in model 1" for name in halves[1]
    ]
    assert "noise.png: no pair" in told and "left out (1)" in told
    report = (root / "map/report.html").read_text()
    assert "In other models (3)" in report and "Left out (1)" in report


def test_another_model_is_shown_exported_and_localizes(two_models):
    root, halves = two_models
    model = ("--model", 1)
    assert f"registered          {len(halves[1])} photos" in command("info", root / "map", *model)[1]
    assert command("view", root / "map", "--snapshot", root / "s.png", *model)[0] == 0
    assert command("export", root / "map", "--format", "colmap-bin", "--to", root / "e", *model)[0] == 0
    assert list(read_model(root / "e").images) == halves[1]
    out = root / "results"
    status, told = command("localize", "--query", root / "query", "--map", root / "map", "--out", out, *model)
    assert status == 0, told
    assert f"{root / 'map'} --model 1 --queries" in told
    found = load_pose(out / "poses.txt")
    expected = read_model(root / "map/sparse/1").images["view_005.jpg"]
    scale = np.linalg.norm(read_model(root / "map/sparse/1").images["view_006.jpg"].center - expected.center)
    assert np.linalg.norm(found - expected.translation) < 0.02 * scale
    status, told = command("view", root / "map", "--model", 2)
    assert status == 1 and "there is no model 2; its map has models 0 to 1" in told


def load_pose(path) -> np.ndarray:
    """The translation of the only row."""
    (row,) = path.read_text().splitlines()
    return np.array(row.split()[-3:], float)

"""Photos taken from one point, on synthesized keypoints: they make no map, however flat or narrow the others are."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tpsfm import colmap
from tpsfm.colmap import mapping
from tpsfm.colmap.one_point import ROTATED, are_from_one_point, rotation_share
from tpsfm.colmap.rigs import apply_rigs
from tpsfm.photos import Photo

TURNED = {"cam_from_rig_rotation": [1, 0, 0, 0], "cam_from_rig_translation": [0, 0, 0]}  # exactly how matters not
SIZE, FOCAL = (640, 480), 600.0


def photos(
    folder: Path,
    points: np.ndarray,
    cameras: list[tuple[np.ndarray, np.ndarray]],
    noise: float = 0.5,
    named: list[str] | None = None,
) -> Path:
    """A verified database of photos without EXIF that see points [P, 3] from cameras (R, C), some matches wrong."""
    rng = np.random.default_rng(0)
    keypoints, visible = {}, {}
    for number, (rotation, centre) in enumerate(cameras):
        x = (points - centre) @ rotation.T
        pixels = FOCAL * x[:, :2] / x[:, 2:] + np.array(SIZE) / 2
        name = f"{number}.jpg" if named is None else named[number]
        visible[name] = np.flatnonzero((x[:, 2] > 0) & (pixels >= 0).all(1) & (pixels < SIZE).all(1))
        keypoints[name] = (pixels[visible[name]] + rng.normal(0, noise, (len(visible[name]), 2))).astype(np.float32)
    names = list(keypoints)
    with colmap.PairTable(folder / "database.db", create=True) as table:
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        table.retain(names, dict.fromkeys(pairs, "key"))
        for a, b in pairs:
            _, first, second = np.intersect1d(visible[a], visible[b], return_indices=True)
            matches = np.column_stack([first, second]).astype(np.uint32)
            wrong = rng.random(len(matches)) < 0.1
            matches[wrong, 1] = rng.permutation(matches[wrong, 1])
            table.write((a, b), matches, "key")
    infos = {name: Photo(*SIZE) for name in names}
    cameras_of = colmap.group_cameras(infos, "per-image" if named is None else "per-folder")
    colmap.write_images(folder / "database.db", infos, cameras_of, keypoints.__getitem__)
    colmap.verify_matches(folder / "database.db", threads=1)
    return folder / "database.db"


def cloud(count: int = 2500, depth: tuple[float, float] = (5.0, 12.0)) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.column_stack([rng.uniform(-8, 8, count), rng.uniform(-4, 4, count), rng.uniform(*depth, count)])


def turning(count: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cameras in one point."""
    turns = [(yaw, (-1) ** i * 2.0) for i, yaw in enumerate(np.linspace(-15, 15, count))]
    return [(cv2.Rodrigues(np.radians([pitch, yaw, 0.0]))[0], np.zeros(3)) for yaw, pitch in turns]


def moving(count: int, step: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cameras on a line, some metres in front of what they look at."""
    return [(np.eye(3), np.array([step * (i - count / 2), 0, 0])) for i in range(count)]


def models(folder: Path, database: Path) -> list[int]:
    """How many photos each model has."""
    found, _ = colmap.reconstruct(database, folder / "sparse", threads=1)
    return [len(colmap.read_model(one).images) for one in found]


def test_photos_from_one_point_make_no_map(tmp_path, monkeypatch, caplog):
    database = photos(tmp_path, cloud(1200), turning())
    with caplog.at_level("WARNING", "tpsfm"):
        assert models(tmp_path, database) == []
    assert not caplog.text  # no other try is made
    assert colmap.photos_from_one_point(database, {"0.jpg", "3.jpg"}) == {"0.jpg": "1.jpg", "3.jpg": "2.jpg"}
    monkeypatch.setattr(mapping, "are_from_one_point", lambda *_: False)
    assert models(tmp_path, database) == [4]  # COLMAP finds a baseline, as the focal lengths are free


@pytest.mark.parametrize(
    ("points", "cameras"),
    [
        (cloud(depth=(8.0, 8.001)), moving(6, 0.8)),  # a wall
        (cloud(depth=(8.0, 8.3)), moving(8, 0.4)),
        (cloud(), moving(8, 0.25)),  # a narrow baseline
        (cloud(), moving(3, 1.0)),
        (cloud(), moving(2, 1.0)),
    ],
)
def test_photos_that_move_make_a_map(points, cameras, tmp_path):
    database = photos(tmp_path, points, cameras)
    assert models(tmp_path, database) == [len(cameras)]


def test_views_of_a_rig_say_nothing_of_each_other(tmp_path):
    """Those of one moment may look out from one point, as a panorama's do."""
    around = [(rotation, np.array([x, 0.0, 0.0])) for rotation, _ in turning() for x in (0.0, 1.0, 2.0)]
    names = [f"{view}/{moment}.jpg" for view in "abcd" for moment in range(3)]
    database = photos(tmp_path, cloud(), around, named=names)
    views = [{"image_prefix": f"{view}/", **({"ref_sensor": True} if view == "a" else TURNED)} for view in "abcd"]
    assert are_from_one_point(database, {name for name in names if name.endswith("/0.jpg")})
    (tmp_path / "rig.json").write_text(json.dumps([{"cameras": views}]))
    apply_rigs(database, tmp_path / "rig.json")
    assert not are_from_one_point(database)
    assert not are_from_one_point(database, {name for name in names if name.endswith("/0.jpg")})


def test_two_photos_of_few_matches_make_no_map(tmp_path):
    assert models(tmp_path, photos(tmp_path, cloud(110), moving(2, 1.0))) == []


def test_the_share_of_matches_that_a_rotation_explains():
    rng = np.random.default_rng(2)
    first = rng.uniform(0, SIZE, (300, 2))
    rays = np.column_stack([(first - np.array(SIZE) / 2) / FOCAL, np.ones(300)])
    turned = rays @ cv2.Rodrigues(np.radians([3.0, 12.0, 5.0]))[0].T
    second = FOCAL * turned[:, :2] / turned[:, 2:] + np.array(SIZE) / 2
    second[:60] += 100
    focals = np.array([[300.0, 300.0], [FOCAL, FOCAL], [1000.0, 1000.0]])
    assert rotation_share(first, second, SIZE, SIZE, focals) == pytest.approx(0.8, abs=0.02)
    assert rotation_share(first, second, SIZE, SIZE, focals[::2]) < 0.5
    second = first + np.outer(rng.uniform(10, 60, 300), [1, 0])  # parallax
    assert rotation_share(first, second, SIZE, SIZE, focals) < 0.3 < ROTATED
    assert rotation_share(first[:0], second[:0], SIZE, SIZE, focals) == 0

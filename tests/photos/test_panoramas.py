"""360-degree photos cut into views: each view shows the directions that its camera says."""

import csv
import json
import zlib  # noqa: F401  before pycolmap

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from tests.support.localizing import command
from tests.support.pictures import exif
from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Sim3, rotation_angle, rotation_matrix
from tpsfm.photos import read_photo
from tpsfm.photos.panoramas import FIELD, VIEWS, cut_panoramas

PACKET = (
    b'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:ProjectionType="equirectangular"/>'
)
PLACE = {1: "N", 2: (55.0, 30.0, 0.0), 3: "E", 4: (13.0, 0.0, 36.0)}


def panorama(path, width=720, **options):
    """A panorama whose colours are the directions that it shows: x right, y down, z to its middle."""
    longitude = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    latitude = ((np.arange(width // 2) + 0.5) / (width // 2) - 0.5) * np.pi
    x, z = np.cos(latitude)[:, None] * np.sin(longitude), np.cos(latitude)[:, None] * np.cos(longitude)
    rays = np.stack([x, np.broadcast_to(np.sin(latitude)[:, None], x.shape), z], -1)
    Image.fromarray(((rays + 1) * 127.5).round().astype(np.uint8)).save(path, **options)
    return path


def test_each_view_shows_what_its_camera_does(tmp_path):
    (tmp_path / "around").mkdir()
    panorama(tmp_path / "around/a.png")
    panorama(tmp_path / "around/b.jpg", quality=95, exif=exif({}, {}, PLACE))
    count, (width, height, fx, fy, cx, cy) = cut_panoramas(tmp_path / "around", tmp_path / "views")
    assert count == 2 and width == height == 2 * cx == 2 * cy and fx == fy
    assert 2 * np.degrees(np.arctan(width / 2 / fx)) == pytest.approx(FIELD, abs=0.3)
    (rig,) = pycolmap.read_rig_config(tmp_path / "views/rig.json")
    assert len(rig.cameras) == VIEWS and rig.cameras[0].ref_sensor
    cameras = json.loads((tmp_path / "views/rig.json").read_text())[0]["cameras"]
    y, x = np.mgrid[:height, :width] + 0.5
    for camera in cameras:
        rotation = rotation_matrix(camera.get("cam_from_rig_rotation", [1, 0, 0, 0]))
        rays = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], -1)
        rays = rays / np.linalg.norm(rays, axis=2)[..., None] @ rotation
        with Image.open(tmp_path / "views/photos" / camera["image_prefix"] / "a.png.jpg") as photo:
            shown = np.asarray(photo) / 127.5 - 1
        assert np.abs(shown - rays).max() < 0.05
    assert read_photo(tmp_path / "views/photos/view_3/b.jpg").gps[:2] == pytest.approx((55.5, 13.01))


ROOM = np.array([4.0, 1.5, 3.0])  # half of its sides, metres
ALONG = 25  # texels a metre


def inside(centre, width, walls):
    """A panorama of a room of noise, from a place in it: x right, y down, z to the middle."""
    longitude = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    latitude = ((np.arange(width // 2) + 0.5) / width - 0.25) * 2 * np.pi
    x, z = np.cos(latitude)[:, None] * np.sin(longitude), np.cos(latitude)[:, None] * np.cos(longitude)
    rays = np.stack([x, np.broadcast_to(np.sin(latitude)[:, None], x.shape), z], -1)
    far = (np.sign(rays) * ROOM - centre) / rays
    axis = far.argmin(-1)
    place = centre + rays * far.min(-1, keepdims=True)
    pixels = np.zeros((width // 2, width), np.uint8)
    for (of, side), wall in walls.items():
        here = (axis == of) & (np.sign(np.take_along_axis(rays, axis[..., None], -1)[..., 0]) == side)
        at = ((np.delete(place, of, 2) + np.delete(ROOM, of)) * ALONG).astype(np.float32)
        pixels[here] = cv2.remap(wall, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[here]
    return cv2.GaussianBlur(pixels, (0, 0), 0.7)


def test_panoramas_are_mapped_and_told_as_such(tmp_path):
    rng = np.random.default_rng(0)
    walls = {}
    for key in [(axis, side) for axis in range(3) for side in (-1, 1)]:
        columns, rows = (2 * ALONG * np.delete(ROOM, key[0])).astype(int)
        coarse = rng.integers(0, 256, (rows // 4, columns // 4), np.uint8)
        walls[key] = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    centres = {f"floor/{i}.jpg": np.array([0.5 * i - 0.8, 0.1 * i, 0.3 * (i % 2)]) for i in range(4)}
    (tmp_path / "around/floor").mkdir(parents=True)
    for name, centre in centres.items():
        Image.fromarray(inside(centre, 720, walls)).save(tmp_path / "around" / name, quality=95)
    code, said = command("panoramas", tmp_path / "around", tmp_path / "views")
    assert code == 0, said
    told = said.split("map/ ")[1].split()  # the command that it prints
    options = ("--features", "sift", "--max-keypoints", 600, "--no-turned", "--threads", 1)
    code, said = command("reconstruct", tmp_path / "views/photos", tmp_path / "map", *told, *options)
    assert code == 0 and "panoramas           4 of 4, their poses are in " in said, said
    images = read_model(tmp_path / "map/sparse").images
    for i in range(4):  # exactly from one point each
        views = [images[f"view_{view}/floor/{i}.jpg"].center for view in range(VIEWS)]
        assert np.ptp(views, axis=0).max() < 1e-9
    assert "4 of 4 panoramas" in (tmp_path / "map/report.html").read_text()
    rows = list(csv.DictReader((tmp_path / "map/panoramas.csv").open()))
    assert [row["name"] for row in rows] == list(centres)
    found = np.array([[float(row[key]) for key in ("x", "y", "z")] for row in rows])
    onto = Sim3.fit(found, np.array(list(centres.values())))
    assert np.linalg.norm(onto(found) - list(centres.values()), axis=1).max() < 0.02
    for row in rows:  # all look the same way
        rotation = rotation_matrix([float(row[key]) for key in ("qw", "qx", "qy", "qz")])
        assert np.degrees(rotation_angle(rotation @ onto.rotation.T)) < 1


def test_what_a_user_sees(tmp_path):
    (tmp_path / "around").mkdir()
    panorama(tmp_path / "around/a.jpg", xmp=PACKET)
    with pytest.raises(TpsfmError, match="is a 360-degree photo; cut such photos into views first: tpsfm panoramas"):
        read_photo(tmp_path / "around/a.jpg")
    code, said = command("panoramas", tmp_path / "around", tmp_path / "views")
    assert code == 0 and "--rig" in said and "--cameras PINHOLE,176,176,114.592,114.592,88,88 --fix-cameras" in said
    code, said = command("panoramas", tmp_path / "around", tmp_path / "views")
    assert code != 0 and "holds files already" in said
    panorama(tmp_path / "around/b.jpg", 360)
    code, said = command("panoramas", tmp_path / "around", tmp_path / "more")
    assert code != 0 and "have 2 sizes" in said
    Image.new("RGB", (100, 80)).save(tmp_path / "around/c.jpg")
    code, said = command("panoramas", tmp_path / "around", tmp_path / "more")
    assert code != 0 and "c.jpg is 100x80; a 360-degree photo is twice as wide as high" in said

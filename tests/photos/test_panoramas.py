"""360-degree photos cut into views: each view shows the directions that its camera says."""

import json
import zlib  # noqa: F401  before pycolmap

import numpy as np
import pycolmap
import pytest
from PIL import Image

from tests.support.localizing import command
from tests.support.pictures import exif
from tpsfm.errors import TpsfmError
from tpsfm.geometry import rotation_matrix
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

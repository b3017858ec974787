"""A map in metres written for geographic programs."""

import json

import numpy as np
import pytest

from tests.support.viewed import make_model
from tpsfm import colmap
from tpsfm.colmap.geodesy import from_enu, from_utm, to_enu, to_utm
from tpsfm.colmap.world_formats import WORLD_WRITERS
from tpsfm.errors import TpsfmError

LUND = np.array([55.7047, 13.1910, 60.0])
WORLD = {
    "origin": dict(zip(("latitude", "longitude", "altitude"), LUND, strict=True)),
    "utm": {"zone": 33, "hemisphere": "N", "epsg": 32633},
}


@pytest.mark.parametrize("place", [(55.7, 13.19, 60), (-33.9, 151.2, 5), (10, 11.9999, 0), (10, 12.0001, 0)])
def test_utm_and_back(place):
    places = from_enu(np.random.default_rng(0).normal(0, 200, (50, 3)), np.array(place, float))
    zone = int((place[1] + 180) // 6) + 1  # some of the places are in the next one
    np.testing.assert_allclose(from_utm(to_utm(places, zone), zone, place[0] > 0), places, atol=1e-8, rtol=0)


def enu(utm: np.ndarray) -> np.ndarray:
    return to_enu(from_utm(utm, 33, True), LUND)


def test_ply_with_an_offset(tmp_path):
    model = make_model(points=200)
    WORLD_WRITERS["ply-utm"](model, tmp_path / "a.ply", WORLD)
    head, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    lines = head.decode().splitlines()
    assert "comment EPSG:32633" in lines
    offset = np.array(next(line.split()[2:] for line in lines if line.startswith("comment offset")), float)
    points = np.frombuffer(body, np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]))["xyz"]
    np.testing.assert_allclose(enu(points + offset), model.points, atol=5e-4)


@pytest.mark.parametrize("format", ["las", "laz"])
def test_las(tmp_path, format):
    laspy, model = pytest.importorskip("laspy"), make_model(points=200)
    pytest.importorskip("pyproj")
    WORLD_WRITERS[format](model, tmp_path / f"a.{format}", WORLD)
    cloud = laspy.read(tmp_path / f"a.{format}")
    assert cloud.header.parse_crs().to_epsg() == 32633 and cloud.header.are_points_compressed == (format == "laz")
    np.testing.assert_allclose(enu(np.asarray(cloud.xyz)), model.points, atol=1e-3)
    assert (np.stack([cloud.red, cloud.green, cloud.blue], 1) // 257 == model.colors).all()


def test_geojson(tmp_path):
    model = make_model()
    WORLD_WRITERS["geojson"](model, tmp_path / "a.geojson", WORLD)
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [one["properties"]["name"] for one in features] == list(model.images)
    for one, pose in zip(features, model.images.values(), strict=True):
        longitude, latitude, altitude = one["geometry"]["coordinates"]
        assert to_enu(np.array([[latitude, longitude, altitude]]), LUND)[0] == pytest.approx(pose.center, abs=1e-3)
        heading, pitch = np.radians([one["properties"]["heading"], one["properties"]["pitch"]])
        ahead = [np.cos(pitch) * np.sin(heading), np.cos(pitch) * np.cos(heading), np.sin(pitch)]
        assert pose.rotation[2] == pytest.approx(ahead, abs=1e-3)


def test_a_map_in_its_own_frame_has_no_place(synthetic_map, tmp_path):
    with pytest.raises(TpsfmError, match="'laz' needs a map in metres, and this one is in its own frame"):
        colmap.export(synthetic_map[0] / "sparse", "laz", tmp_path / "a.laz", tmp_path)
    assert colmap.export(synthetic_map[0] / "sparse", "geojson", tmp_path / "a.geojson", tmp_path, WORLD).is_file()

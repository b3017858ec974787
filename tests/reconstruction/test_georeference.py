"""Maps in metres: by GPS positions, by ground control points; the true cameras are known in metres."""

import json
import shutil

import numpy as np
import pytest

import tpsfm
from tests.support.localizing import HELD, command
from tpsfm.colmap import project, read_model
from tpsfm.colmap.geodesy import ecef_from_enu, from_utm, to_enu, utm_zone
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import load_poses
from tpsfm.geometry import Camera, Pose
from tpsfm.io.workspace import Workspace
from tpsfm.photos import Photo
from tpsfm.photos.positions import read_positions
from tpsfm.reconstruction.georeference import Georeference, positions_of
from tpsfm.reconstruction.ground_control import read_ground_points
from tpsfm.reconstruction.placement import place
from tpsfm.reconstruction.world import read_georeference, transform_of

LUND = np.array([55.7047, 13.1910, 60.0])
RADIUS = 6378137.0


@pytest.fixture(scope="module")
def truth(held_out):
    return {name: pose for name, pose in load_poses(held_out / "gt.json").items() if name not in HELD}


@pytest.fixture
def workspace(held_out, tmp_path):
    shutil.copytree(held_out / "map", tmp_path / "map")
    return Workspace.open(tmp_path / "map")


def places(metres):
    """Latitude, longitude and altitude of places near Lund; to a millimetre within a few tens of metres."""
    metres = np.atleast_2d(metres)
    step = 1e-5
    ahead = [to_enu((LUND + offset)[None], LUND)[0] for offset in step * np.eye(3)]
    return LUND + metres @ np.linalg.inv(np.array(ahead) / step)


def write_gps(path, truth, noise=0.02, changes=None):
    rng = np.random.default_rng(0)
    lines = ["name,lat,lon,alt"]
    for name, pose in truth.items():
        lat, lon, alt = (changes or {}).get(name, places(pose.center + rng.normal(0, noise, 3))[0])
        lines.append(f"{name},{lat:.9f},{lon:.9f},{alt:.4f}")
    path.write_text("\n".join(lines))
    return path


def write_gcp(
    path, held_out, points, photos, header="+proj=utm +zone=33 +ellps=WGS84 +datum=WGS84 +units=m +no_defs", at=None
):
    """Sightings of points [N, 3] of the courtyard; their easting and northing are read off a grid of UTM's own."""
    cameras = json.loads((held_out / "gt.json").read_text())
    lines = [header]
    for number, point in enumerate(points):
        for name in photos:
            K, R, C = (np.array(cameras[name][key]) for key in "KRC")
            x, y, z = K @ R @ (point - C)
            if at is not None or (z > 0 and 0 < x / z < 480 and 0 < y / z < 360):
                px, py = at or (x / z, y / z)
                east, north, up = utm_of(point)
                lines.append(f"{east:.4f} {north:.4f} {up:.4f} {px:.3f} {py:.3f} {name} gcp{number}")
    path.write_text("\n".join(lines))
    return path


def utm_of(point):
    """Easting, northing, altitude of a place in metres about Lund, by Newton's method on UTM's inverse."""
    goal, guess = places(point)[0], np.array([386000.0, 6175000.0, LUND[2]])
    for _ in range(8):
        jacobian = (
            np.array(
                [
                    from_utm((guess + step)[None], 33, True)[0] - from_utm((guess - step)[None], 33, True)[0]
                    for step in np.eye(3)
                ]
            )
            / 2
        )
        guess = guess + np.linalg.solve(jacobian.T, goal - from_utm(guess[None], 33, True)[0])
    return guess


def error(workspace, truth):
    """How far the photos are from where they were taken, metres."""
    content = read_georeference(workspace)
    origin = np.array([content["origin"][key] for key in ("latitude", "longitude", "altitude")])
    images = read_model(workspace.sparse).images
    there = to_enu(places([truth[name].center for name in images]), origin)
    return np.linalg.norm(np.array([pose.center for pose in images.values()]) - there, axis=1)


def test_places_on_the_earth():
    north, east, up = to_enu(LUND + 1e-5 * np.eye(3), LUND)
    assert north[1] == pytest.approx(1.1135, abs=1e-3) and east[0] == pytest.approx(0.6284, abs=1e-3)
    assert up == pytest.approx([0, 0, 1e-5], abs=1e-8)
    assert to_enu(LUND[None], LUND)[0] == pytest.approx([0, 0, 0], abs=1e-8)
    assert ecef_from_enu(np.zeros(3)) @ [1, 2, 3, 1] == pytest.approx([RADIUS + 3, 1, 2, 1])
    assert utm_zone(55.7, 13.19) == (33, "N", 32633) and utm_zone(-33.9, 151.2) == (56, "S", 32756)
    assert from_utm(np.array([[500000.0, 0.0, 5.0]]), 33, True)[0] == pytest.approx([0, 15, 5], abs=1e-9)


def test_by_gps_and_back(workspace, truth, held_out, tmp_path):
    before, own = read_model(workspace.sparse), tpsfm.Map(workspace.root)
    wrong = next(iter(truth))
    gps = write_gps(tmp_path / "gps.csv", truth, changes={wrong: (*(LUND[:2] + 0.05), 0.0)})
    with workspace.locked():
        Georeference(gps=gps).run(workspace)
        assert np.delete(error(workspace, truth), 0).max() < 0.08
        content = json.loads((workspace.root / "georeference.json").read_text())
        assert [row["name"] for row in content["residuals"] if not row["used"]] == [wrong]
        assert content["utm"] == {"zone": 33, "hemisphere": "N", "epsg": 32633}
        moved = transform_of(workspace.sparse)
        assert content["rmse_before_adjustment"]["horizontal"] < 0.08
        Georeference(gps=gps, position_priors=False).run(workspace)
        assert transform_of(workspace.sparse).scale == moved.scale
        np.testing.assert_allclose(read_model(workspace.sparse).points, moved(before.points), atol=1e-9)

        photo = sorted((held_out / "queries").iterdir())[0]
        expected, found = own.localize(photo).pose, tpsfm.Map(workspace.root).localize(photo).pose
        assert np.linalg.norm(found.center - moved(expected.center)) < 0.005
        Georeference(gps=gps).run(workspace)
        stamp = (workspace.sparse / "images.bin").stat().st_mtime_ns
        Georeference(gps=gps).run(workspace)
        assert (workspace.sparse / "images.bin").stat().st_mtime_ns == stamp

        Georeference(gps=write_gps(gps, truth)).run(workspace)
        assert error(workspace, truth).max() < 0.08
        Georeference(georeference="off").run(workspace)
    np.testing.assert_allclose(read_model(workspace.sparse).points, before.points, atol=1e-9)
    assert read_georeference(workspace) is None and not (workspace.root / "georeference.json").exists()


def test_by_ground_control_points(workspace, truth, held_out, tmp_path):
    model = read_model(workspace.sparse)
    photos = list(truth)
    spread = np.array([[-2.5, 0.5, 1.0], [2.0, 0.0, 0.5], [0.0, 1.0, 3.5], [1.0, -1.5, 0.2], [-1.0, 0.0, 2.5]])
    gcp = write_gcp(tmp_path / "gcp_list.txt", held_out, spread, list(truth))
    lines = gcp.read_text().splitlines()
    lines.append(" ".join([*lines[1].split()[:3], "20", "30", photos[-1], "gcp0"]))  # a sighting of something else
    gcp.write_text("\n".join(lines))
    check = write_gcp(tmp_path / "check.txt", held_out, spread[:, [1, 0, 2]] + [0, 0, 0.4], list(truth))
    with workspace.locked():
        Georeference(gcp=gcp, gcp_check=check).run(workspace)
    assert error(workspace, truth).max() < 0.05
    content = read_georeference(workspace)
    assert content["method"] == "gcp" and max(content["check_rmse"].values()) < 0.03
    assert len(content["residuals"]) == len(content["check_points"]) == 5
    code, said = command("map", workspace.root, "--gcp", gcp, "--gcp-check", check, "--threads", 1)
    assert code == 0 and "by 5 of 5 ground control points" in said and "check points        5: RMSE 0.0" in said
    assert "EPSG:32633" in command("info", workspace.root)[1]
    report = workspace.report.read_text()
    assert "gcp3" in report and "check point" in report
    assert len(read_model(workspace.sparse).points) == len(model.points)


def test_positions_count_by_their_deviation(workspace, truth, tmp_path):
    shifted = {name: places(truth[name].center + np.array([0, 0, 0.5]))[0] for name in list(truth)[::2]}
    lines = write_gps(tmp_path / "gps.csv", truth, 0.001, shifted).read_text().splitlines()
    rows = [f"{line},{0.5 if line.split(',')[0] in shifted else 0.002}" for line in lines[1:]]
    (tmp_path / "gps.csv").write_text("\n".join([lines[0] + ",std_up", *rows]))
    with workspace.locked():
        Georeference(gps=tmp_path / "gps.csv", position_priors=False).run(workspace)
        before = error(workspace, truth).mean()
        Georeference(gps=tmp_path / "gps.csv").run(workspace)
    assert before > 0.2 and error(workspace, truth).max() < 0.05
    assert read_georeference(workspace)["rmse_before_adjustment"]["vertical"] > 0.2
    code, said = command("map", workspace.root, "--gps", tmp_path / "gps.csv", "--threads", 1)
    assert code == 0 and "by 8 of 8 GPS positions" in said
    assert "after the adjustment to them" in workspace.report.read_text()


def test_ground_control_points_count_by_their_accuracy(workspace, truth, held_out, tmp_path):
    """One is 0.5 m off in height: where points are known to be exact, the map is held by the others."""
    spread = np.array([[-2.5, 0.5, 1.0], [2.0, 0.0, 0.5], [0.0, 1.0, 3.5], [1.0, -1.5, 0.2], [-1.0, 0.0, 2.5]])
    path = write_gcp(tmp_path / "gcp_list.txt", held_out, spread, list(truth))
    header, *lines = path.read_text().splitlines()
    up = lines[0].split()[2]
    raised = [line.replace(up, f"{float(up) + 0.5:.4f}") if line.endswith("gcp0") else line for line in lines]
    path.write_text("\n".join([header, *raised]))
    errors = []
    for accuracy in (None, 0.001):
        code, said = command(
            *("map", workspace.root, "--gcp", path, "--threads", 1),
            *(() if accuracy is None else ("--gcp-accuracy", accuracy)),
        )
        assert code == 0, said
        rows = {row["name"]: row["up"] for row in read_georeference(workspace)["residuals"]}
        wrong = rows.pop("gcp0")
        errors.append(max(map(abs, rows.values())))
    assert errors[1] < 0.02 < errors[0] and wrong > 0.48
    assert list(Georeference(gcp_accuracy=0.02).remarks(dict)) == ["--gcp-accuracy has no effect without --gcp"]
    (remark,) = Georeference(gcp=path, gcp_accuracy=0.02, position_priors=False).remarks(dict)
    assert remark == "--gcp-accuracy has no effect with --no-position-priors"
    code, said = command("map", workspace.root, "--gcp", path, "--gcp-accuracy", 0)
    assert code != 0 and "--gcp-accuracy" in said and "0" in said


def test_positions_on_a_line(workspace, truth, tmp_path):
    """The photos of the walk are held level: they tell which way is up."""
    line = np.array([pose.center for pose in truth.values()])
    line = line.mean(0) + np.outer((line - line.mean(0)) @ (1, 0, 0), (1, 0, 0))
    gps = write_gps(tmp_path / "gps.csv", truth, changes=dict(zip(truth, places(line), strict=True)))
    code, said = command("map", workspace.root, "--gps", gps, "--threads", 1, "--no-position-priors")
    assert code == 0 and "upright             by photos held level, to some 2°: its positions don't tell that" in said
    images = read_model(workspace.sparse).images
    ups = [pose.rotation.T @ truth[name].rotation[:, 2] for name, pose in images.items()]
    assert np.degrees(np.arccos(np.mean(ups, 0)[2])) < 5
    assert read_georeference(workspace)["upright"]["degrees"] < 3


def test_a_map_of_an_older_tpsfm_is_not_moved_twice(workspace, truth, tmp_path):
    gps = write_gps(tmp_path / "gps.csv", truth)
    with workspace.locked():
        Georeference(gps=gps).run(workspace)
        shutil.rmtree(workspace.sparse / "own_frame")
        with pytest.raises(TpsfmError, match="was moved by an older tpsfm; delete this folder"):
            Georeference(georeference="off").run(workspace)


def test_heights_above_take_off_where_no_others_are_known():
    photos = {
        name: Photo(1, 1, gps=(55.0, 13.0, altitude), relative_altitude=12.5, gps_deviation=(0.1, 0.2, 0.3))
        for name, altitude in (("a", np.nan), ("b", 70.0))
    }
    assert [row.place[2] for row in positions_of(photos).values()] == [pytest.approx(np.nan, nan_ok=True), 70.0]
    (row,) = positions_of({"a": photos["a"]}).values()
    assert row.place[2] == 12.5 and row.deviation == (0.1, 0.2, 0.3)


def test_without_positions_the_map_stays(workspace, caplog):
    stamp = (workspace.sparse / "images.bin").stat().st_mtime_ns
    with workspace.locked():
        Georeference().run(workspace)
        assert (workspace.sparse / "images.bin").stat().st_mtime_ns == stamp and not caplog.records
        with pytest.raises(TpsfmError, match=r"three photos of the map .* at least, and it has 0"):
            Georeference(georeference="require").run(workspace)


def test_what_is_wrong_is_told_in_one_line(workspace, truth, held_out, tmp_path):
    def refused(said, **options):
        with workspace.locked(), pytest.raises(TpsfmError, match=said):
            Georeference(**options).run(workspace)

    gps, gcp = tmp_path / "gps.csv", tmp_path / "gcp_list.txt"
    refused(
        "gps.csv: all 8 positions are at the same place",
        gps=write_gps(gps, truth, changes=dict.fromkeys(truth, tuple(LUND))),
    )
    far = {name: places([90 * i * (-1) ** i, 70 * i * i, 400 * (i % 3)])[0] for i, name in enumerate(truth)}
    refused("no three of the 8 photos|too close|line", gps=write_gps(gps, truth, changes=far))
    swapped = {name: places(pose.center)[0][[1, 0, 2]] for name, pose in truth.items()}
    refused("swap its columns", gps=write_gps(gps, truth, changes=swapped))
    gps.write_text("view_000.jpg,13.19,155.7,60")
    assert read_positions(gps)["view_000.jpg"].place == (13.19, 155.7, 60.0)
    gps.write_text("name,lat,lon,alt,std_horizontal,std_up\nview_000.jpg,55,13,60,0.1,-1")
    refused("deviations of view_000.jpg must be above 0", gps=gps)
    gps.write_text("view_000.jpg,155.7,13.19,60")
    refused("no place; are latitude and longitude swapped", gps=gps)
    gps.write_text("name,lat,lon,alt\nother.jpg,55,13,60")
    refused("names none of the 8 photos, but other.jpg first", gps=gps)
    gps.write_text("name,lat,lon,alt\nview_000.jpg,north,13,60")
    refused("is not a name, latitude", gps=gps)
    refused("can't read the positions", gps=tmp_path / "none.csv")

    point = np.array([[0.0, 0.5, 1.0]])
    refused("gcp0 at 500, 10 is outside view", gcp=write_gcp(gcp, held_out, point, list(truth)[:2], at=(500, 10)))
    refused(
        r"three ground control points .* at least, and it has 1",
        gcp=write_gcp(gcp, held_out, point, list(truth)),
    )
    refused("names none of the photos, but HELD first", gcp=_text(gcp, "WGS84 UTM 33N\n1 2 3 4 5 HELD"))
    refused("is not 'x y z px py photo", gcp=_text(gcp, "WGS84 UTM 33N\n1 2 3 4 view_000.jpg"))
    refused("is empty", gcp=_text(gcp, ""))
    refused(r"cannot read .*none\.txt", gcp=tmp_path / "none.txt")
    assert not (workspace.root / "georeference.json").exists()


def test_positions_without_altitude(workspace, truth, tmp_path):
    gps = tmp_path / "gps.csv"
    some = {name: (*places(truth[name].center)[0][:2], np.nan) for name in list(truth)[::2]}
    with workspace.locked():
        Georeference(gps=write_gps(gps, truth, changes=some)).run(workspace)
    assert error(workspace, truth).max() < 0.15
    assert len(read_georeference(workspace)["residuals"]) == len(truth) - len(some)


def test_a_level_flight_without_any_altitude():
    grid = np.array([[10.0 * x, 8.0 * y, 50.0] for x in range(4) for y in range(3)])
    source = {f"{i}.jpg": at / 20 for i, at in enumerate(grid)}
    known = {f"{i}.jpg": (*at[:2], np.nan) for i, at in enumerate(places(grid))}
    found = place(source, known, (10.0, 10.0, 20.0), 0)
    assert found.fit.transform.scale == pytest.approx(20, rel=1e-3)
    assert found.level and found.fit.rmse()[0] < 0.01


def test_coordinate_systems(tmp_path):
    path = tmp_path / "gcp_list.txt"
    rows = "\n386000 6175000 7 1 2 a.jpg x\n"
    expected = from_utm(np.array([[386000, 6175000, 7.0]]), 33, True)[0]
    for header in ("WGS84 UTM 33N", "EPSG:32633", "+proj=utm +zone=33 +datum=WGS84"):
        (point,) = read_ground_points(_text(path, header + rows), ["folder/a.jpg"])
        assert point.place == pytest.approx(tuple(expected)) and point.sightings == (("folder/a.jpg", 1, 2),)
    (point,) = read_ground_points(_text(path, "EPSG:4326\n13 55 7 1 2 a.jpg"), ["a.jpg"])
    assert point.place == (55, 13, 7) and point.name == "13 55 7"
    try:
        import pyproj  # noqa: F401
    except ImportError:
        with pytest.raises(TpsfmError, match=r"needs pyproj: pip install 'tpsfm\[geo\]'"):
            read_ground_points(_text(path, "EPSG:3006" + rows), ["a.jpg"])
    else:
        (point,) = read_ground_points(_text(path, "EPSG:3006" + rows), ["a.jpg"])
        assert point.place == pytest.approx(tuple(from_utm(np.array([[386000, 6175000, 7.0]]), 33, True)[0]), abs=1e-3)
        with pytest.raises(TpsfmError, match="is no coordinate system"):
            read_ground_points(_text(path, "nowhere" + rows), ["a.jpg"])


def test_pixels_come_back(held_out):
    from tpsfm.colmap import unproject

    camera = Camera("OPENCV", 480, 360, [400.0, 410.0, 239.0, 180.5, -0.1, 0.02, 0.001, 0.0])
    pixels = np.array([[10.0, 20.0], [400.0, 300.0]])
    rays = np.column_stack([unproject(camera, pixels), np.ones(2)])
    np.testing.assert_allclose(project(camera, Pose(1, np.eye(3), np.zeros(3)), 3 * rays), pixels, atol=1e-6)


def _text(path, text):
    path.write_text(text)
    return path

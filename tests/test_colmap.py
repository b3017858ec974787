"""The COLMAP adapter on synthesized scenes whose cameras are known."""

import json
import logging
import os
import zlib  # noqa: F401  before pycolmap
from dataclasses import replace

import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import pose_errors
from tpsfm.images import ImageInfo
from tpsfm.model import Pose, read_model, summary

pycolmap = pytest.importorskip("pycolmap")
from tpsfm import colmap  # noqa: E402
from tpsfm.colmap import mapping  # noqa: E402

INFO = ImageInfo(1024, 768, 1, "", "", None, None)


class Scene:
    """A synthesized scene as tpsfm's stages would see it: infos, keypoints, matches, true poses."""

    def __init__(self, frames=8, seed=0, noise=0.3, outliers=0.2):
        pycolmap.set_random_seed(seed)
        options = {"num_rigs": 1, "num_frames_per_rig": frames, "num_points3D": 400, "track_length": -1}
        reconstruction = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(options))
        rng = np.random.default_rng(seed)
        self.truth, self.points, seen = {}, {}, {}
        for image in reconstruction.images.values():
            name = f"a folder/{image.name}".replace("frame", "größe ")
            pose = image.cam_from_world()
            self.truth[name] = Pose(0, pose.rotation.matrix(), pose.translation)
            xy = np.array([point.xy for point in image.points2D])
            # Half a pixel off COLMAP's: what the adapter has to add again.
            self.points[name] = (xy + rng.normal(0, noise, xy.shape) - 0.5).astype(np.float32)
            seen[name] = {p.point3D_id: i for i, p in enumerate(image.points2D) if p.has_point3D()}
        self.infos = dict.fromkeys(self.truth, INFO)
        self.matches = []
        names = sorted(self.truth)
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                common = sorted(seen[first].keys() & seen[second].keys())
                pairs = np.array([(seen[first][k], seen[second][k]) for k in common], np.uint32)
                wrong = rng.random(len(pairs)) < outliers
                pairs[wrong, 1] = rng.permutation(pairs[wrong, 1])
                self.matches.append((first, second, pairs))

    def database(self, path, **options):
        camera_of = colmap.group_cameras(self.infos, "single")
        return colmap.build_database(
            path, self.infos, camera_of, self.points.__getitem__, iter(self.matches), **options
        )


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.fixture(scope="module")
def mapped(scene, tmp_path_factory):
    root = tmp_path_factory.mktemp("mapped")
    assert scene.database(root / "database.db") == len(scene.matches)
    inliers = colmap.verify_matches(root / "database.db", threads=2)
    steps = []
    folders = colmap.reconstruct_incremental(
        root / "database.db", root, root / "sparse", threads=2, progress=steps.append
    )
    return root, inliers, steps, folders


def test_finds_the_cameras(scene, mapped):
    root, _, steps, folders = mapped
    assert folders == [root / "sparse"]
    model = read_model(folders[0])
    assert list(model.images) == sorted(scene.truth)
    assert pose_errors(scene.truth, model.images).max() < 0.5
    (camera,) = model.cameras.values()  # shared, and its focal length found from a guess
    assert camera.params[0] == pytest.approx(1280, rel=0.01)
    assert steps == [2, 3, 4, 5, 6, 7, 8]

    report = summary(model)
    assert report["registered"] == sorted(scene.truth)
    assert report["points"] == len(model.points) > 300
    assert 0.1 < report["reprojection_error"] < 0.7
    assert report["mean_track_length"] > 5
    assert report["cameras"][0]["images"] == 8
    json.dumps(report)


def test_verification_keeps_the_true_matches(scene, mapped):
    _, inliers, _, _ = mapped
    assert set(inliers) == {(a, b) for a, b, _ in scene.matches}
    for first, second, matches in scene.matches:
        assert 0.7 * len(matches) < inliers[first, second] < 0.9 * len(matches)
    assert colmap.verified_inliers(mapped[0] / "database.db") == inliers


def test_database_adds_half_a_pixel(scene, tmp_path):
    infos = {"b.jpg": replace(INFO, focal_px=900.0, gps=(55.7, 13.2, float("nan"))), "a b.jpg": INFO}
    points = {"b.jpg": np.array([[0, 0], [10.25, 3]], np.float32), "a b.jpg": np.zeros((0, 2), np.float32)}
    matches = [("a b.jpg", "b.jpg", np.zeros((0, 2), np.uint32))]
    path = tmp_path / "database.db"
    camera_of = {"a b.jpg": 0, "b.jpg": 1}
    assert colmap.build_database(path, infos, camera_of, points.__getitem__, matches, "OPENCV") == 0
    with pycolmap.Database.open(path) as db:
        assert [(i.image_id, i.name) for i in db.read_all_images()] == [(1, "a b.jpg"), (2, "b.jpg")]
        np.testing.assert_array_equal(db.read_keypoints(2)[:, :2], [[0.5, 0.5], [10.75, 3.5]])
        unknown, known = db.read_all_cameras()
        assert known.model.name == "OPENCV"
        assert (known.focal_length_x, known.has_prior_focal_length) == (900, True)
        assert (unknown.focal_length_x, unknown.has_prior_focal_length) == (pytest.approx(1.2 * 1024), False)
        (prior,) = db.read_all_pose_priors()
        np.testing.assert_array_equal(prior.position, [55.7, 13.2, 0])
        assert prior.coordinate_system == pycolmap.PosePriorCoordinateSystem.WGS84


@pytest.mark.parametrize("mapper", [colmap.reconstruct_incremental, colmap.reconstruct_global])
def test_same_seed_same_model(scene, tmp_path, mapper):
    contents = []
    for run, threads in enumerate((2, 1)):
        root = tmp_path / str(run)
        root.mkdir()
        scene.database(root / "database.db")
        colmap.verify_matches(root / "database.db", seed=5, threads=threads)
        (folder,) = mapper(root / "database.db", root, root / "sparse", seed=5, threads=threads)
        assert pose_errors(scene.truth, read_model(folder).images).max() < 1
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert contents[0] == contents[1]


def test_verification_depends_on_no_other_pair(scene, tmp_path):
    scene.database(tmp_path / "all.db")
    inliers = colmap.verify_matches(tmp_path / "all.db", threads=2)
    colmap.verify_matches(tmp_path / "all.db", seed=9, threads=1)
    progress = []
    again = colmap.verify_matches(tmp_path / "all.db", threads=1, progress=lambda *at: progress.append(at))
    assert again == inliers
    assert progress == [(i + 1, len(inliers)) for i in range(len(inliers))]


def test_interrupted_verification_leaves_nothing_behind(scene, tmp_path):
    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    path = tmp_path / "database.db"
    scene.database(path)
    with pytest.raises(KeyboardInterrupt):
        colmap.verify_matches(path, progress=interrupt)
    assert set(colmap.verified_inliers(path).values()) == {0}


def test_two_scenes_give_two_models_the_larger_first(tmp_path):
    small, large = Scene(frames=5, seed=1), Scene(frames=7, seed=2)
    for prefix, part in (("a", small), ("b", large)):  # the smaller one comes first by name
        for field in ("truth", "points", "infos"):
            setattr(part, field, {f"{prefix}/{k}": v for k, v in getattr(part, field).items()})
        part.matches = [(f"{prefix}/{a}", f"{prefix}/{b}", m) for a, b, m in part.matches]
    both = small
    both.points |= large.points
    both.infos |= large.infos
    both.matches += large.matches
    both.database(tmp_path / "database.db")
    colmap.verify_matches(tmp_path / "database.db", threads=2)
    folders = colmap.reconstruct_incremental(tmp_path / "database.db", tmp_path, tmp_path / "sparse", threads=2)
    assert folders == [tmp_path / "sparse", tmp_path / "sparse" / "1"]
    assert [len(read_model(folder).images) for folder in folders] == [7, 5]


def test_a_failed_start_is_tried_again_relaxed(mapped, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(mapping._MAPPER, "init_min_num_inliers", 1_000_000)
    with caplog.at_level(logging.WARNING, "tpsfm"):
        (folder,) = colmap.reconstruct_incremental(mapped[0] / "database.db", tmp_path, tmp_path / "sparse")
    assert len(read_model(folder).images) == 8
    assert "0 of 8 connected photos registered: trying relaxed thresholds" in caplog.text
    assert "relaxed thresholds registered 8 of 8" in caplog.text


def test_no_model_leaves_the_old_one(scene, mapped, tmp_path):
    (tmp_path / "sparse").mkdir()
    (tmp_path / "sparse" / "kept").touch()
    nothing = Scene(frames=3)
    nothing.matches = [(a, b, m[:5]) for a, b, m in nothing.matches]
    nothing.database(tmp_path / "database.db")
    assert set(colmap.verify_matches(tmp_path / "database.db").values()) == {0}
    for mapper in (colmap.reconstruct_incremental, colmap.reconstruct_global):
        assert mapper(tmp_path / "database.db", tmp_path, tmp_path / "sparse") == []
    assert (tmp_path / "sparse" / "kept").exists()


def test_colours_come_from_the_photos(scene, mapped, tmp_path):
    from PIL import Image

    photos = tmp_path / "photos"
    for name in list(scene.truth)[:-1]:  # one photo has gone meanwhile: the others still give colours
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1024, 768), (200, 100, 50)).save(photos / name)
    (folder,) = colmap.reconstruct_incremental(mapped[0] / "database.db", photos, tmp_path / "sparse")
    colors = read_model(folder).colors
    assert (colors == [200, 100, 50]).all(1).mean() > 0.95


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_bad_database(tmp_path, damage):
    path = tmp_path / "database.db"
    if damage == "garbage":
        path.write_bytes(os.urandom(3000))
    for call in (
        lambda: colmap.verify_matches(path),
        lambda: colmap.verified_inliers(path),
        lambda: colmap.reconstruct_incremental(path, tmp_path, tmp_path / "sparse"),
        lambda: colmap.reconstruct_global(path, tmp_path, tmp_path / "sparse"),
    ):
        with pytest.raises(TpsfmError, match=r"database\.db"):
            call()
    assert not (tmp_path / "sparse").exists()


def test_a_new_database_replaces_a_damaged_one(scene, tmp_path):
    path = tmp_path / "database.db"
    for suffix in ("", "-wal", "-shm", ".new", ".new-wal"):
        (tmp_path / f"database.db{suffix}").write_bytes(os.urandom(3000))
    scene.database(path)
    assert len(colmap.verify_matches(path)) == len(scene.matches)
    assert not list(tmp_path.glob("*.new*"))


def test_camera_groups():
    phone = replace(INFO, make="A", model="B", focal_px=800.2)
    infos = {
        "phone/1.jpg": phone,
        "phone/2.jpg": phone,
        "phone/zoomed.jpg": replace(phone, focal_px=1600.0),
        "phone/upright.jpg": replace(phone, width=768, height=1024),
        "other/3.jpg": phone,
        "video/1.png": INFO,
        "video/2.png": INFO,
        "web/1.jpg": INFO,
        "web/2.jpg": INFO,
        "web/3.jpg": replace(INFO, width=800),
    }

    def groups(mode, infos=infos):
        camera_of = colmap.group_cameras(infos, mode)
        members = {}
        for name in sorted(infos):
            members.setdefault(camera_of[name], []).append(name)
        assert list(members) == list(range(len(members)))
        return list(members.values())

    assert groups("auto") == [
        ["other/3.jpg", "phone/1.jpg", "phone/2.jpg"],
        ["phone/upright.jpg"],
        ["phone/zoomed.jpg"],
        ["video/1.png"],
        ["video/2.png"],
        ["web/1.jpg"],
        ["web/2.jpg"],
        ["web/3.jpg"],
    ]
    assert groups("per-image") == [[name] for name in sorted(infos)]
    same = {name: INFO for name in ("a/1", "a/2", "b/1")}
    assert groups("per-folder", same) == [["a/1", "a/2"], ["b/1"]]
    assert groups("single", same) == [["a/1", "a/2", "b/1"]]
    with pytest.raises(TpsfmError, match=r"web/3\.jpg.*sizes differ"):
        groups("per-folder", {name: infos[name] for name in infos if name.startswith("web")})
    with pytest.raises(TpsfmError, match="no camera mode"):
        groups("sometimes")
    with pytest.raises(TpsfmError, match="no camera model"):
        colmap.build_database("x.db", {"a": INFO}, {"a": 0}, None, [], "LENS")


def exported(mapped, format, tmp_path):
    return colmap.export(mapped[0] / "sparse", format, tmp_path / "out", tmp_path / "photos")


def same_centers(folder, expected):
    again = pycolmap.Reconstruction(folder)
    assert sorted(image.name for image in again.images.values()) == sorted(expected)
    for image in again.images.values():
        np.testing.assert_allclose(image.projection_center(), expected[image.name], atol=1e-6)


def test_export_colmap_binary(mapped, tmp_path):
    model = read_model(mapped[0] / "sparse")
    same_centers(exported(mapped, "colmap-bin", tmp_path), {n: p.center for n, p in model.images.items()})


def test_export_colmap_text(mapped, tmp_path):
    with pytest.raises(TpsfmError, match="can't hold the space"):
        exported(mapped, "colmap-txt", tmp_path)
    reconstruction = pycolmap.Reconstruction(mapped[0] / "sparse")
    for image in reconstruction.images.values():
        image.name = image.name.replace(" ", "_")
    reconstruction.write(tmp_path)
    colmap.export(tmp_path, "colmap-txt", tmp_path / "text", tmp_path)
    expected = {name: pose.center for name, pose in read_model(tmp_path).images.items()}
    same_centers(tmp_path / "text", expected)


def test_export_ply(mapped, tmp_path):
    model, path = read_model(mapped[0] / "sparse"), exported(mapped, "ply", tmp_path)
    again = pycolmap.Reconstruction()
    again.import_PLY(path)
    points = np.array([again.points3D[key].xyz for key in sorted(again.points3D)])
    np.testing.assert_allclose(points, model.points, rtol=1e-5, atol=1e-5)


def test_export_nerfstudio(mapped, tmp_path):
    model, out = read_model(mapped[0] / "sparse"), exported(mapped, "nerfstudio", tmp_path)
    content = json.loads((out / "transforms.json").read_text())
    assert content["camera_model"] == "OPENCV"
    assert (out / content["ply_file_path"]).is_file()
    point = model.points[0]
    for frame, (name, pose) in zip(content["frames"], model.images.items(), strict=True):
        assert (out / frame["file_path"]).resolve() == (tmp_path / "photos" / name).resolve()
        x, y, z, _ = np.linalg.inv(frame["transform_matrix"]) @ [*point, 1]  # looks along -z, y up
        expected = pose.rotation @ point + pose.translation
        np.testing.assert_allclose([x, -y, -z], expected, atol=1e-9)
        assert frame["fl_x"] == frame["fl_y"] == model.cameras[1].params[0]
        assert (frame["cx"], frame["cy"], frame["k1"]) == tuple(model.cameras[1].params[1:])


def test_export_bundler(mapped, tmp_path):
    model, out = read_model(mapped[0] / "sparse"), exported(mapped, "bundler", tmp_path)
    assert (out / "list.txt").read_text().splitlines() == list(model.images)
    lines = (out / "bundle.out").read_text().splitlines()
    assert lines[0] == "# Bundle file v0.3"
    cameras, points = map(int, lines[1].split())
    assert (cameras, points) == (len(model.images), len(model.points))
    values = [np.array(line.split(), float) for line in lines[2:]]
    errors = []
    for at in range(5 * cameras, len(values), 3):
        track = values[at + 2][1:].reshape(-1, 4)
        assert len(track) == values[at + 2][0]
        for camera, _, x, y in track:  # Bundler's own projection: along -z, y up, origin at the centre
            (focal, k1, k2), *rotation, translation = values[5 * int(camera) : 5 * int(camera) + 5]
            p = np.array(rotation) @ values[at] + translation
            p = -p[:2] / p[2]
            r2 = p @ p
            errors.append(np.linalg.norm(focal * (1 + k1 * r2 + k2 * r2**2) * p - (x, y)))
    assert np.mean(errors) == pytest.approx(model.errors.mean(), abs=0.05)


def test_export_refuses(mapped, tmp_path):
    with pytest.raises(TpsfmError, match="no export format 'dxf'"):
        exported(mapped, "dxf", tmp_path)
    with pytest.raises(TpsfmError, match=r"cameras\.bin is missing"):
        colmap.export(tmp_path, "ply", tmp_path / "x.ply", tmp_path)
    (tmp_path / "out").touch()
    with pytest.raises(TpsfmError, match="out"):
        exported(mapped, "nerfstudio", tmp_path)

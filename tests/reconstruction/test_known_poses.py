"""A COLMAP model as a map, and photos of known poses."""

import csv
import json
import shutil

import numpy as np
import pytest

import tpsfm
from tests.support.localizing import command
from tpsfm import colmap
from tpsfm.colmap import read_model, read_poses
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import load_poses
from tpsfm.geometry import quaternion, rotation_angle
from tpsfm.reconstruction.imported import import_model

OPTIONS = ("--features", "sift", "--max-keypoints", 1500, "--threads", 1)


@pytest.fixture(scope="module")
def imported(held_out, tmp_path_factory):
    """The map of `held_out`, as a text model of another program, made a workspace, with our own points."""
    root = tmp_path_factory.mktemp("imported")
    colmap.export(held_out / "map/sparse", "colmap-txt", root / "model", held_out / "db")
    code, said = command("import", root / "model", held_out / "db", root / "map")
    assert code == 0 and "registered          8 of 8 photos" in said
    shutil.copytree(root / "map", root / "as_imported")
    code, _ = command("reconstruct", held_out / "db", root / "map", "--poses", root / "map/imported", *OPTIONS)
    assert code == 0
    return root


def same_poses(model, known, atol=1e-9):
    assert model.images.keys() == known.images.keys()
    for name, pose in model.images.items():
        np.testing.assert_allclose(pose.rotation, known.images[name].rotation, atol=atol)
        np.testing.assert_allclose(pose.translation, known.images[name].translation, atol=atol)
        np.testing.assert_allclose(
            model.cameras[pose.camera_id].params, known.cameras[known.images[name].camera_id].params, rtol=1e-9
        )


def test_an_imported_model_is_a_workspace(imported, held_out, tmp_path):
    out, model = imported / "as_imported", read_model(held_out / "map/sparse")
    same_poses(read_model(out / "sparse"), model, atol=1e-6)
    assert len(read_model(out / "sparse").points) == len(model.points)
    assert "registered          8 of 8 photos" in command("info", out)[1]
    assert command("view", out, "--snapshot", tmp_path / "map.png")[0] == 0
    assert command("export", out, "--format", "nerfstudio", "--to", tmp_path / "nerf")[0] == 0
    assert (out / "report.html").is_file() and (out / "points.ply").is_file()
    code, said = command("localize", "--query", held_out / "queries", "--map", out, "--out", tmp_path / "found")
    assert code == 1 and "tpsfm reconstruct" in said and "--poses" in said


def test_with_our_points_its_poses_stay_and_photos_are_localized(imported, held_out):
    theirs, ours = read_model(imported / "map/imported"), read_model(imported / "map/sparse")
    same_poses(ours, theirs)
    assert len(ours.points) > 300 and np.median(ours.errors) < 0.5
    found = tpsfm.Map(imported / "map")
    beside = tpsfm.Map(held_out / "map")
    for photo in sorted((held_out / "queries").iterdir()):
        pose, other = (one.localize(photo).pose for one in (found, beside))
        assert rotation_angle(pose.rotation @ other.rotation.T) < np.radians(0.1)
        assert np.linalg.norm(pose.center - other.center) < 0.01 * np.linalg.norm(theirs.images["view_000.jpg"].center)
    code, said = command(
        "localize", "--query", held_out / "queries", "--map", imported / "map", "--add", "--out", imported / "x"
    )
    assert code == 1 and "can't be extended" in said


def test_true_poses_of_nerfstudio_and_csv(held_out, tmp_path):
    truth = load_poses(held_out / "gt.json")
    names = sorted(photo.name for photo in (held_out / "db").iterdir())
    K = json.loads((held_out / "gt.json").read_text())[names[0]]["K"]
    frames, rows = [], []
    for name in names[:-1]:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = truth[name].rotation.T @ np.diag([1, -1, -1]), truth[name].center
        frames.append({"file_path": f"images/{name}", "transform_matrix": pose.tolist()})
        camera = f"PINHOLE,480,360,{K[0][0]} {K[1][1]} {K[0][2] + 0.5} {K[1][2] + 0.5}"
        numbers = [*quaternion(truth[name].rotation), *truth[name].translation]
        rows.append([name, *map(repr, map(float, numbers)), *camera.split(",")])
    center = {"cx": K[0][2] + 0.5, "cy": K[1][2] + 0.5, "w": 480, "h": 360}
    nerf = tmp_path / "transforms.json"
    nerf.write_text(
        json.dumps({"camera_model": "OPENCV", "fl_x": K[0][0], "fl_y": K[1][1], **center, "frames": frames})
    )
    table = tmp_path / "poses.csv"
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(
            [["name", "qw", "qx", "qy", "qz", "tx", "ty", "tz", "model", "width", "height", "params"], *rows]
        )
    first, second = read_poses(nerf), read_poses(table)
    assert {camera.model for camera in first.cameras.values()} == {"OPENCV"} and len(first.cameras) == 1
    for name in names[:-1]:
        for model in (first, second):
            np.testing.assert_allclose(model.images[name].rotation, truth[name].rotation, atol=1e-9)
            np.testing.assert_allclose(model.images[name].translation, truth[name].translation, atol=1e-9)
    np.testing.assert_allclose(second.cameras[1].matrix, K)

    workspace = tpsfm.reconstruct(
        held_out / "db", tmp_path / "map", poses=table, features="sift", max_keypoints=1000, threads=1, align=False
    )
    model = read_model(workspace.sparse)
    same_poses(model, second)
    assert np.median(model.errors) < 1
    assert workspace.manifest["left_out"] == {names[-1]: f"no pose of it in {table}"}
    before = (workspace.sparse / "images.bin").stat().st_mtime_ns
    tpsfm.reconstruct(
        held_out / "db", tmp_path / "map", poses=table, features="sift", max_keypoints=1000, threads=1, align=False
    )
    assert (workspace.sparse / "images.bin").stat().st_mtime_ns == before


def test_a_model_below_the_given_folder(imported, held_out, tmp_path):
    """hloc's `outputs` has the model in a folder of its own, beside its features; COLMAP's `sparse` in `0`."""
    outputs = tmp_path / "outputs"
    shutil.copytree(imported / "model", outputs / "sfm_sift+nn")
    (outputs / "feats-sift.h5").touch()
    code, said = command("import", outputs, held_out / "db", tmp_path / "map")
    assert code == 0 and "registered          8 of 8 photos" in said
    shutil.copytree(imported / "model", outputs / "sfm_other")
    code, said = command("import", outputs, held_out / "db", tmp_path / "more")
    assert code == 1 and "has 2 models; name one: " in said
    code, said = command("import", tmp_path / "map" / "sparse", held_out / "db", tmp_path / "again")
    assert code == 0


@pytest.mark.parametrize(
    "name, said",
    [
        ("bundle.out", "reads no Bundler files"),
        ("sfm_data.json", "openMVG_main_openMVG2Colmap"),
        ("transforms.json", "--poses"),
        ("images.bin", "give its folder"),
    ],
)
def test_models_of_other_programs(name, said, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(TpsfmError, match=said):
        import_model(tmp_path / name, tmp_path, tmp_path / "map")
    assert not (tmp_path / "map").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(TpsfmError, match="empty has no COLMAP model"):
        import_model(tmp_path / "empty", tmp_path, tmp_path / "map")


def test_what_is_wrong_is_told_in_one_line(imported, held_out, tmp_path):
    model = imported / "model"
    code, said = command("import", model, tmp_path, tmp_path / "a")
    assert code == 1 and "has none of the 8 photos" in said and "view_000.jpg first" in said
    code, said = command("import", tmp_path / "none", held_out / "db", tmp_path / "b")
    assert code == 1 and "there is no folder" in said
    code, said = command("import", model, held_out / "db", imported / "map")
    assert code == 1 and "has a map already" in said
    known = read_poses(model)
    with pytest.raises(TpsfmError, match=r"0 of 2 photos have a pose in 'm', which names view_000\.jpg first"):
        colmap.poses_of(known, ["x.jpg", "y.jpg"], "m")
    with pytest.raises(TpsfmError, match="can't read the poses"):
        read_poses(tmp_path / "none.csv")
    for name, text, said in (
        ("a.csv", "name,x\nq,1\n", "no 'model'"),
        ("b.json", "{}", "no 'frames'"),
        ("c.json", "[", "is not nerfstudio's"),
        (
            "d.csv",
            "name,qw,qx,qy,qz,tx,ty,tz,model,width,height,params\na,1,0,0,0,0,0,0,PINHOLE,9,9,1 2\n",
            "2 parameters",
        ),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(TpsfmError, match=said):
            read_poses(tmp_path / name)


def test_photos_of_another_size(imported, held_out, tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for photo in list((held_out / "db").iterdir())[:3]:
        Image.open(photo).resize((240, 180)).save(tmp_path / "photos" / photo.name)
    with pytest.raises(TpsfmError, match=r"is 240x180 .* 480x360"):
        tpsfm.reconstruct(
            tmp_path / "photos",
            tmp_path / "map",
            poses=imported / "model",
            features="sift",
            max_keypoints=200,
            threads=1,
        )


def test_an_imported_model_whose_photos_are_gone_later(held_out, tmp_path):
    photos = shutil.copytree(held_out / "db", tmp_path / "photos")
    import_model(held_out / "map/sparse", photos, tmp_path / "map")
    shutil.rmtree(photos)
    code, said = command("undistort", tmp_path / "map", tmp_path / "dense")
    assert code != 0 and "photos is gone; run 'tpsfm import' on the new one" in said
    assert not (tmp_path / "dense").exists()

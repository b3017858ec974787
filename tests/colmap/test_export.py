"""A map written for other programs."""

import json
import zlib  # noqa: F401  before pycolmap

import numpy as np
import pycolmap
import pytest

from tpsfm import colmap
from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError


def exported(synthetic_map, format, tmp_path):
    return colmap.export(synthetic_map[0] / "sparse", format, tmp_path / "out", tmp_path / "photos")


def same_centers(folder, expected):
    again = pycolmap.Reconstruction(folder)
    assert sorted(image.name for image in again.images.values()) == sorted(expected)
    for image in again.images.values():
        np.testing.assert_allclose(image.projection_center(), expected[image.name], atol=1e-6)


def test_export_colmap_binary(synthetic_map, tmp_path):
    model = read_model(synthetic_map[0] / "sparse")
    same_centers(exported(synthetic_map, "colmap-bin", tmp_path), {n: p.center for n, p in model.images.items()})


def test_export_colmap_text(synthetic_map, tmp_path):
    with pytest.raises(TpsfmError, match="can't hold the space"):
        exported(synthetic_map, "colmap-txt", tmp_path)
    reconstruction = pycolmap.Reconstruction(synthetic_map[0] / "sparse")
    for image in reconstruction.images.values():
        image.name = image.name.replace(" ", "_")
    reconstruction.write(tmp_path)
    colmap.export(tmp_path, "colmap-txt", tmp_path / "text", tmp_path)
    expected = {name: pose.center for name, pose in read_model(tmp_path).images.items()}
    same_centers(tmp_path / "text", expected)


def test_export_ply(synthetic_map, tmp_path):
    model, path = read_model(synthetic_map[0] / "sparse"), exported(synthetic_map, "ply", tmp_path)
    again = pycolmap.Reconstruction()
    again.import_PLY(path)
    points = np.array([again.points3D[key].xyz for key in sorted(again.points3D)])
    np.testing.assert_allclose(points, model.points, rtol=1e-5, atol=1e-5)


def test_export_nerfstudio(synthetic_map, tmp_path):
    model, out = read_model(synthetic_map[0] / "sparse"), exported(synthetic_map, "nerfstudio", tmp_path)
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
        assert (frame["cx"], frame["cy"], frame["k1"]) == tuple(colmap.colmap_params(model.cameras[1])[1:])


def test_export_bundler(synthetic_map, tmp_path):
    model, out = read_model(synthetic_map[0] / "sparse"), exported(synthetic_map, "bundler", tmp_path)
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


def test_export_refuses(synthetic_map, tmp_path):
    with pytest.raises(TpsfmError, match="no export format 'dxf'"):
        exported(synthetic_map, "dxf", tmp_path)
    with pytest.raises(TpsfmError, match=r"cameras\.bin is missing"):
        colmap.export(tmp_path, "ply", tmp_path / "x.ply", tmp_path)
    (tmp_path / "out").touch()
    with pytest.raises(TpsfmError, match="out"):
        exported(synthetic_map, "nerfstudio", tmp_path)

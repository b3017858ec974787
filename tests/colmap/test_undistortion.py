"""Undistorted photos: a rendered fisheye camera's, against those that a pinhole camera takes at the same places."""

import json
import zlib  # noqa: F401  before pycolmap

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from tests.support.localizing import command
from tpsfm import colmap
from tpsfm.colmap import read_model
from tpsfm.colmap.loading import colmap_camera
from tpsfm.demo.dataset import camera_path, render_scene
from tpsfm.demo.rendering import View
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera

SIZE = (240, 180)
LENSES = {
    "radial": Camera("SIMPLE_RADIAL", *SIZE, [190.0, 119.5, 89.5, -0.25]),
    "fisheye": Camera("OPENCV_FISHEYE", *SIZE, [130.0, 131.0, 121.5, 87.5, 0.02, -0.01, 0.0, 0.0]),
}
WIDE = 2  # the pinhole renderings from which the lens samples: so many times as large


@pytest.fixture(scope="module", params=LENSES)
def lens(request, tmp_path_factory):
    """Photos through a lens, masks, and a map of true poses with noisy observations: (folder, camera, views)."""
    root, camera = tmp_path_factory.mktemp(request.param), LENSES[request.param]
    width, height = (WIDE * side for side in SIZE)
    focal = camera.params[0] * 1.2
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    names = ["view 0.jpg", "walk/view_1.png"]
    views = {
        name: View(K, view.R, view.C, (width, height)) for name, view in zip(names, camera_path(2, SIZE), strict=True)
    }
    (root / "wide/images/walk").mkdir(parents=True)
    render_scene(root / "wide", size=(width, height), cameras=views)

    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    pixels = np.stack([x, y], -1).reshape(-1, 2) + 0.5
    rays = np.asarray(colmap_camera(camera).cam_from_img(pixels.astype(float)))
    at = (rays * focal + (K[0, 2], K[1, 2])).astype(np.float32).reshape(SIZE[1], SIZE[0], 2)
    for name in names:
        photo = cv2.remap(np.asarray(Image.open(root / "wide/images" / name)), at, None, cv2.INTER_LINEAR)
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6  # told by the file, and no matter to the map
        Image.fromarray(photo).save(root / "images" / name, quality=95, subsampling=0, exif=exif)
        mask = np.full(photo.shape[:2], 255, np.uint8)
        mask[60:100, 100:140] = 0
        (root / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    (root / "masks/view 0.jpg.png").unlink()
    _write_model(root / "sparse", camera, views)
    return root, camera, views


def _write_model(folder, camera, views):
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(colmap_camera(camera, 7))
    rng = np.random.default_rng(0)
    points = rng.uniform((-3, -2, 0.5), (3, 2, 5), (150, 3))
    seen = []
    for image_id, (name, view) in enumerate(views.items(), start=1):
        pixels = np.asarray(colmap_camera(camera).img_from_cam((points - view.C) @ view.R.T))
        pixels += rng.normal(0, 0.3, pixels.shape)
        seen.append(((pixels > 0) & (pixels < SIZE)).all(1))
        image = pycolmap.Image(name, pixels, camera_id=7, image_id=image_id)
        pose = pycolmap.Rigid3d(np.column_stack([view.R, -view.R @ view.C]))
        model.add_image_with_trivial_frame(image, pose)
    for row, point in enumerate(points):
        track = [pycolmap.TrackElement(i, row) for i, mask in enumerate(seen, start=1) if mask[row]]
        if len(track) > 1:
            model.add_point3D(point, pycolmap.Track(track))
    model.update_point_3d_errors()
    folder.mkdir()
    model.write_binary(folder)


def undistorted(lens, out, tool="colmap", masks=True):
    root = lens[0]
    return colmap.undistort(root / "sparse", root / "images", out, tool, root / "masks" if masks else None, threads=1)


def test_the_photos_are_those_of_pinhole_cameras(lens, tmp_path):
    _, camera, views = lens
    out = undistorted(lens, tmp_path / "dense")
    (pinhole,) = read_model(out / "sparse").cameras.values()
    assert pinhole.model == "PINHOLE"
    width, height = pinhole.width, pinhole.height
    np.testing.assert_allclose(np.diag(pinhole.matrix)[:2], [camera.matrix[0, 0], camera.matrix[1, 1]], rtol=1e-9)
    (tmp_path / "direct/images/walk").mkdir(parents=True)
    full = tuple(WIDE * side for side in SIZE)  # the renderer's textures depend on it
    direct = {name: View(pinhole.matrix, view.R, view.C, full) for name, view in views.items()}
    render_scene(tmp_path / "direct", size=full, cameras=direct)
    for name in views:
        with Image.open(out / "images" / name) as photo:
            assert photo.size == (width, height)
            assert photo.getexif().get(0x0112, 1) == 1
            ours = np.asarray(photo.convert("L"), np.float32)
        truth = np.asarray(Image.open(tmp_path / "direct/images" / name).convert("L"), np.float32)[:height, :width]
        third = width // 3
        for columns in (slice(0, third), slice(third, 2 * third), slice(2 * third, None)):
            dx, dy = shift(ours[:, columns], truth[:, columns])
            assert np.hypot(dx, dy) < 0.1


def shift(first, second):
    """By how many pixels a picture is moved against another."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
    first, second = (np.ascontiguousarray(picture) for picture in (first, second))
    _, warp = cv2.findTransformECC(first, second, np.eye(2, 3, dtype=np.float32), cv2.MOTION_TRANSLATION, criteria)
    return warp[:, 2]


def test_the_points_project_as_before(lens, tmp_path):
    root = lens[0]
    before, after = (
        pycolmap.Reconstruction(folder) for folder in (root / "sparse", undistorted(lens, tmp_path / "d") / "sparse")
    )
    assert after.num_points3D() == before.num_points3D() > 100
    moved = []
    for key, image in after.images.items():
        old = before.images[key]
        assert image.name == old.name
        assert image.cam_from_world().matrix().tolist() == old.cam_from_world().matrix().tolist()
        for point, former in zip(image.points2D, old.points2D, strict=True):
            if point.has_point3D():
                assert point.point3D_id == former.point3D_id
                rays = [i.cam_from_world() * before.points3D[point.point3D_id].xyz for i in (old, image)]
                error = np.subtract(old.camera.img_from_cam(rays[0]), former.xy)
                # The lens shrinks and pinholes don't: by as much as its derivative there.
                turned = old.camera.cam_from_img(former.xy + 1e-3 * error) - old.camera.cam_from_img(former.xy)
                expected = 1e3 * turned * image.camera.focal_length_x
                moved.append(np.linalg.norm(image.camera.img_from_cam(rays[1]) - point.xy - expected))
    assert np.median(moved) < 0.02


def test_masks_are_warped_along(lens, tmp_path):
    _, camera, _ = lens
    out = undistorted(lens, tmp_path / "dense")
    (pinhole,) = read_model(out / "sparse").cameras.values()
    mask = np.asarray(Image.open(out / "masks/walk/view_1.png.png"))
    assert mask.shape == (pinhole.height, pinhole.width)
    assert set(np.unique(mask)) == {0, 255}
    ray = colmap_camera(camera).cam_from_img(np.array([[120.0, 80.0]]))[0]
    rows, columns = np.nonzero(mask == 0)
    x, y = pinhole.matrix[:2, :2] @ ray + pinhole.matrix[:2, 2]
    assert np.hypot(columns.mean() - x, rows.mean() - y) < 2
    assert not (out / "masks/view 0.jpg.png").exists()


def test_each_tool_has_its_folders(lens, tmp_path):
    names = list(lens[2])
    dense = undistorted(lens, tmp_path / "colmap")
    assert (dense / "stereo/fusion.cfg").read_text().splitlines() == sorted(names)
    assert (dense / "stereo/patch-match.cfg").read_text().splitlines()[:2] == ["view 0.jpg", "__auto__, 20"]
    for kind in ("depth_maps", "normal_maps", "consistency_graphs"):
        assert (dense / "stereo" / kind / "walk").is_dir()

    openmvs = undistorted(lens, tmp_path / "openmvs", "openmvs")
    assert sorted(path.name for path in (openmvs / "sparse").glob("*.bin"))[:2] == ["cameras.bin", "frames.bin"]
    assert sorted(path.name for path in (openmvs / "masks").iterdir()) == ["view_1.mask.png"]

    splats = undistorted(lens, tmp_path / "splats", "gaussian-splatting", masks=False)
    assert sorted(path.name for path in splats.iterdir()) == ["images", "sparse"]
    assert read_model(splats / "sparse/0").images.keys() == set(names)

    nerf = undistorted(lens, tmp_path / "nerf", "nerfstudio")
    content = json.loads((nerf / "transforms.json").read_text())
    (camera,) = read_model(nerf / "colmap/sparse/0").cameras.values()
    assert content["camera_model"] == "OPENCV"
    assert (nerf / content["ply_file_path"]).is_file()
    for frame in content["frames"]:
        assert (nerf / frame["file_path"]).is_file()
        assert "k1" not in frame and (frame["w"], frame["h"]) == (camera.width, camera.height)
        assert ("mask_path" in frame) == (not frame["file_path"].endswith("view 0.jpg"))
        assert (nerf / frame.get("mask_path", frame["file_path"])).is_file()


def test_what_is_wrong_is_told_in_one_line(lens, tmp_path):
    root = lens[0]
    with pytest.raises(TpsfmError, match=r"2 of the map's 2 photos are gone from .*, view 0\.jpg first"):
        colmap.undistort(root / "sparse", tmp_path, tmp_path / "out")
    with pytest.raises(TpsfmError, match="can't undistort for 'blender'"):
        undistorted(lens, tmp_path / "out", "blender")
    with pytest.raises(TpsfmError, match="no folder of masks"):
        colmap.undistort(root / "sparse", root / "images", tmp_path / "out", masks=tmp_path / "none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").touch()
    with pytest.raises(TpsfmError, match="holds files already"):
        undistorted(lens, tmp_path / "full")
    with pytest.raises(TpsfmError, match="240x180 in the map"):
        colmap.undistort(root / "sparse", root / "wide/images", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_formats_that_others_do_not_read_become_png(lens, tmp_path):
    root, camera, views = lens
    (tmp_path / "images").mkdir()
    name, view = next(iter(views.items()))
    Image.open(root / "images" / name).save(tmp_path / "images/a.gif")
    _write_model(tmp_path / "sparse", camera, {"a.gif": view})
    out = colmap.undistort(tmp_path / "sparse", tmp_path / "images", tmp_path / "out")
    assert list(read_model(out / "sparse").images) == ["a.gif.png"]
    assert Image.open(out / "images/a.gif.png").format == "PNG"


def test_the_command(held_out, tmp_path):
    code, said = command(
        "undistort", held_out / "map", tmp_path / "scene", "--for", "gaussian-splatting", "--threads", 1
    )
    assert code == 0 and "scene/images" in said
    before, after = (pycolmap.Reconstruction(f) for f in (held_out / "map/sparse", tmp_path / "scene/sparse/0"))
    assert after.compute_mean_reprojection_error() == pytest.approx(before.compute_mean_reprojection_error(), abs=0.02)
    assert len(list((tmp_path / "scene/images").iterdir())) == after.num_reg_images()

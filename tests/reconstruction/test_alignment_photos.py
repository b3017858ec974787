"""Photos of every kind, lenses and small maps in the stage of alignment."""

import itertools
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

import tpsfm
from tests.support.pictures import exif, png16
from tpsfm.colmap import read_model, read_observations
from tpsfm.evaluation.poses import aligned_errors, load_poses
from tpsfm.geometry import Model
from tpsfm.io.workspace import Workspace

OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1}


def photos_of(courtyard, count: int) -> dict[str, Image.Image]:
    return {path.stem: Image.open(path) for path in sorted((courtyard / "images").iterdir())[:count]}


def error(model: Model, courtyard) -> float:
    """The median true error of the cameras' centres, metres; whatever kind of file a photo is."""
    truth = {name.rsplit(".", 1)[0]: pose for name, pose in load_poses(courtyard / "gt.json").items()}
    images = {name.rsplit(".", 1)[0]: pose for name, pose in model.images.items()}
    return float(np.median(aligned_errors({name: truth[name] for name in images}, images)[0]))


def moved_share(workspace: Workspace, name: str) -> float:
    """The share of a photo's observations that were moved onto a patch of another."""
    before, after = read_observations(workspace.mapped)[name], read_observations(workspace.sparse)[name]
    seen = before[1] >= 0
    return float((before[0][seen] != after[0][seen]).any(1).mean())


@pytest.fixture(scope="module")
def unlike(courtyard, tmp_path_factory):
    """Eight photos of a scene: turned and mirrored by EXIF, masked, WebP, of 16 bits, grey, of other sizes."""
    root = tmp_path_factory.mktemp("unlike")
    (root / "photos").mkdir()
    (root / "masks").mkdir()
    images = {name: photo.convert("RGB") for name, photo in photos_of(courtyard, 8).items()}
    images["view_000"].transpose(Image.Transpose.ROTATE_90).save(
        root / "photos" / "view_000.png", exif=exif({0x0112: 6})
    )
    images["view_001"].save(root / "photos" / "view_001.webp", lossless=True)
    wide = np.asarray(images["view_002"]).astype(np.uint16) * 257
    (root / "photos" / "view_002.png").write_bytes(png16(wide))
    images["view_003"].resize((960, 720), Image.Resampling.BICUBIC).save(root / "photos" / "view_003.png")
    images["view_004"].resize((360, 270), Image.Resampling.LANCZOS).save(root / "photos" / "view_004.png")
    images["view_005"].save(root / "photos" / "view_005.png")
    black = np.full((360, 480), 255, np.uint8)
    black[:, :240] = 0
    Image.fromarray(black).save(root / "masks" / "view_005.png.png")
    images["view_006"].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        root / "photos" / "view_006.png", exif=exif({0x0112: 2})
    )
    images["view_007"].convert("L").save(root / "photos" / "view_007.tif")
    return tpsfm.reconstruct(
        root / "photos", root / "map", masks=root / "masks", max_size=480, camera_mode="per-image", **OPTIONS
    )


def test_photos_of_every_kind_are_aligned(unlike, courtyard):
    before, after = read_model(unlike.mapped), read_model(unlike.sparse)
    assert len(after.images) == 8
    assert min(moved_share(unlike, name) for name in after.images) > 0.4
    assert np.median(after.errors) < 0.7 * np.median(before.errors)  # eight cameras fit it to some mistakes
    assert error(after, courtyard) < 0.015


def test_fisheye(courtyard, tmp_path):
    """The photos as an equidistant lens would have taken them."""
    photos = tmp_path / "photos"
    photos.mkdir()
    matrix = np.array(json.loads((courtyard / "gt.json").read_text())["view_000.jpg"]["K"])
    y, x = (np.mgrid[:300, :400] - np.array([149.5, 199.5])[:, None, None]) / matrix[0, 0]
    angle = np.hypot(x, y).clip(1e-9)
    scale = matrix[0, 0] * np.tan(angle) / angle
    places = [(x * scale + matrix[0, 2]).astype(np.float32), (y * scale + matrix[1, 2]).astype(np.float32)]
    for name, photo in photos_of(courtyard, 7).items():
        pixels = cv2.remap(np.asarray(photo), *places, cv2.INTER_CUBIC)
        Image.fromarray(pixels).save(photos / f"{name}.png", exif=exif(camera={0xA405: round(matrix[0, 0] * 36 / 400)}))
    workspace = tpsfm.reconstruct(photos, tmp_path / "map", camera_model="OPENCV_FISHEYE", **OPTIONS)
    before, after = read_model(workspace.mapped), read_model(workspace.sparse)
    assert {camera.model for camera in after.cameras.values()} == {"OPENCV_FISHEYE"}
    assert len(after.images) >= 4  # of 7 that share no known lens
    assert np.median(after.errors) < 0.7 * np.median(before.errors)
    assert error(after, courtyard) < 0.8 * error(before, courtyard)
    assert min(moved_share(workspace, name) for name in after.images) > 0.2  # most others are references


def test_three_photos_make_an_aligned_map(courtyard, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for photo in sorted((courtyard / "images").iterdir())[:3]:
        shutil.copy(photo, photos)
    workspace = tpsfm.reconstruct(photos, tmp_path / "map", **OPTIONS)
    before, after = read_model(workspace.mapped), read_model(workspace.sparse)
    assert len(before.images) == len(after.images) == 3
    assert np.median(after.errors) < 0.5 * np.median(before.errors)


def test_every_model_of_a_map_is_aligned(courtyard, tmp_path):
    """Two halves whose photos are matched among themselves alone make two models."""
    names = sorted(path.name for path in (courtyard / "images").iterdir())
    pairs = [" ".join(pair) for half in (names[:5], names[5:]) for pair in itertools.combinations(half, 2)]
    (tmp_path / "pairs.txt").write_text("\n".join(pairs))
    chosen = {"pairs": "file", "pairs_file": tmp_path / "pairs.txt"}
    workspace = tpsfm.reconstruct(courtyard / "images", tmp_path / "map", **chosen, **OPTIONS)
    assert (workspace.sparse / "1" / "images.bin").exists()
    for model in ("", "1"):
        before, after = read_model(workspace.mapped / model), read_model(workspace.sparse / model)
        assert before.images.keys() == after.images.keys()
        assert np.median(after.errors) < 0.5 * np.median(before.errors)

"""Listing, headers, decoding, orientation and masks, on images made here."""

import math
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import IFDRational

from tpsfm.errors import TpsfmError
from tpsfm.photos.exif import focal_px, gps
from tpsfm.photos.images import (
    decoded_keypoints,
    file_digest,
    list_images,
    probe,
    read_image,
    read_mask,
    upright,
)

WIDTH, HEIGHT = 48, 32


def colours() -> np.ndarray:
    """uint8 [32, 48, 3]: smooth, so that JPEG keeps it, and unlike any mirrored or turned copy of itself."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([5 * x, 7 * y, 120 + x - y], axis=2).astype(np.uint8)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options) if isinstance(image, np.ndarray) else image.save(path, **options)
    return path


def exif(tags=None, camera=None, place=None) -> Image.Exif:
    exif = Image.Exif()
    exif.update(tags or {})
    exif.update({tag: ifd for tag, ifd in ((0x8769, camera), (0x8825, place)) if ifd})
    return exif


def test_listing_is_recursive_sorted_and_takes_any_case(tmp_path):
    names = ["B.JPG", "a b/c.d.tiff", "a b/ü – 照片.Png", "a.webp", "x/y/z.TIF", "z.bmp", "z.jpeg"]
    for name in [*names, "notes.txt", ".hidden.jpg", ".thumbs/t.jpg", "a b/._c.jpg", "jpg", "tab\t.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.close(os.open(os.fsencode(tmp_path) + b"/latin\xe9.jpg", os.O_CREAT))
    assert list_images(tmp_path) == names


def test_listing_tells_what_is_wrong(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "empty").mkdir()
    for path, problem in (("none", "does not exist"), ("a.jpg", "is not a folder"), ("empty", "ends in .bmp .jpeg")):
        with pytest.raises(TpsfmError, match=problem):
            list_images(tmp_path / path)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "tif", "TIFF", "webp", "bmp"])
def test_rgb_in_every_format(tmp_path, suffix):
    lossless = {"quality": 100} if suffix in ("jpg", "JPEG") else {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", colours(), **lossless)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - colours()).max() <= (6 if suffix in ("jpg", "JPEG") else 0)
    info = probe(path)
    assert (info.width, info.height, info.orientation) == (WIDTH, HEIGHT, 1)
    assert (info.make, info.model, info.focal_px, info.gps) == ("", "", None, None)


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit PNG of uint16 [H, W, 3], which Pillow can't write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_every_kind_of_pixel_becomes_8_bits(tmp_path):
    rgb = colours()
    grey = rgb[:, :, 0]
    alpha = np.dstack([rgb, np.full_like(grey, 128)])
    palette = Image.fromarray(rgb).quantize(16)
    (tmp_path / "16 rgb.png").write_bytes(png16(rgb.astype(np.uint16) * 257))
    cases = {
        "grey.png": (grey, grey, 0),
        "grey.jpg": (grey, grey, 6),
        "16.png": (grey.astype(np.uint16) * 257, grey, 0),
        "16.tif": (grey.astype(np.uint16) * 257, grey, 0),
        "32.tif": (Image.fromarray(grey.astype(np.int32) * 257), grey, 0),
        "unit float.tif": (grey.astype(np.float32) / 255, grey, 0),
        "float.tif": (grey.astype(np.float32), grey, 0),
        "rgba.png": (alpha, rgb, 0),
        "rgba.webp": (alpha, rgb, 16),
        "rgba.tif": (alpha, rgb, 0),
        "grey alpha.png": (np.dstack([grey, grey]), grey, 0),
        "palette.png": (palette, np.asarray(palette.convert("RGB")), 0),
        "palette.bmp": (palette, np.asarray(palette.convert("RGB")), 0),
        "cmyk.jpg": (Image.fromarray(rgb).convert("CMYK"), rgb, 12),
        "cmyk.tif": (Image.fromarray(rgb).convert("CMYK"), rgb, 0),
        "1 bit.png": (Image.fromarray(grey > 100), np.where(grey > 100, 255, 0), 0),
        "16 rgb.png": (None, rgb, 0),
    }
    for name, (stored, expected, tolerance) in cases.items():
        if stored is not None:
            save(tmp_path / name, stored)
        image = read_image(tmp_path / name)
        assert image.dtype == np.uint8, name
        assert image.shape == expected.shape, name
        assert np.abs(image.astype(int) - expected).max() <= tolerance, name
        assert probe(tmp_path / name).width == WIDTH


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "jpg", "tif", "webp"])
def test_orientation_is_told_but_not_applied(tmp_path, orientation, format):
    lossless = {"lossless": True} if format == "webp" else {"quality": 100} if format == "jpg" else {}
    path = save(tmp_path / f"a.{format}", colours(), exif=exif({0x0112: orientation}), **lossless)
    info = probe(path)
    assert (info.width, info.height, info.orientation) == (WIDTH, HEIGHT, orientation)
    image = read_image(path)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - colours()).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_as_pillow_turns_it_and_keypoints_come_back(orientation):
    pixels = colours()
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    seen = upright(pixels, orientation)
    assert np.array_equal(seen, np.asarray(ImageOps.exif_transpose(image)))
    assert np.array_equal(upright(pixels[:, :, 0], orientation), seen[:, :, 0])
    y, x = np.mgrid[: seen.shape[0], : seen.shape[1]]
    keypoints = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    mapped = decoded_keypoints(keypoints, orientation, (WIDTH, HEIGHT))
    assert mapped.dtype == np.float32
    column, row = mapped.astype(int).T
    assert np.array_equal(pixels[row, column], seen.reshape(-1, 3))
    assert decoded_keypoints(np.zeros((0, 2)), orientation, (WIDTH, HEIGHT)).shape == (0, 2)


def test_exif_camera_focal_and_place(tmp_path):
    place = {1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 36.0), 5: b"\x01", 6: 12.5}
    tags = {0x010F: "Maker\0 ", 0x0110: "M 1"}
    path = save(tmp_path / "a.jpg", colours(), exif=exif(tags, {0xA405: 28}, place))
    info = probe(path)
    assert (info.make, info.model) == ("Maker", "M 1")
    assert info.focal_px == pytest.approx(28 / math.hypot(36, 24) * math.hypot(WIDTH, HEIGHT))
    assert info.gps == pytest.approx((-(33 + 51.5 / 60), 151.21, -12.5))


def test_exif_focal_by_the_sensor_and_without_altitude(tmp_path):
    # A 36 mm wide sensor of 4800 pixels, the photo scaled down to 48: 24 mm are 32 pixels.
    camera = {0x920A: 24.0, 0xA20E: 4800 / 3.6, 0xA210: 3, 0xA002: 4800, 0xA003: 3200}
    place = {1: "N", 2: (10.0, 30.0, 0.0), 3: "W", 4: (20.0, 0.0, 36.0)}
    info = probe(save(tmp_path / "a.jpg", colours(), exif=exif({}, camera, place)))
    assert info.focal_px == pytest.approx(32, rel=1e-3)
    assert info.gps[:2] == pytest.approx((10.5, -20.01))
    assert math.isnan(info.gps[2])


@pytest.mark.parametrize(
    ("camera", "place"),
    [
        ({0xA405: 0, 0x920A: 24.0}, {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}),
        ({0x920A: 24.0, 0xA20E: 0.0}, {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}),
        ({0xA20E: 4800.0}, {3: "E", 4: (1.0, 0.0, 0.0)}),
    ],
)
def test_useless_exif_is_no_exif(tmp_path, camera, place):
    info = probe(save(tmp_path / "a.jpg", colours(), exif=exif({0x0112: 9}, camera, place)))
    assert (info.orientation, info.focal_px, info.gps) == (1, None, None)


def test_numbers_over_zero_are_no_numbers():
    nothing = IFDRational(1, 0)
    assert focal_px({"FocalLength": nothing, "FocalPlaneXResolution": 100.0}, WIDTH, HEIGHT) is None
    assert focal_px({"FocalLengthIn35mmFilm": nothing}, WIDTH, HEIGHT) is None
    assert gps({"GPSLatitude": (nothing,) * 3, "GPSLongitude": (1.0, 0.0, 0.0)}) is None


def test_damaged_exif_leaves_the_photo(tmp_path):
    path = save(tmp_path / "a.jpg", colours(), exif=exif({0x010F: "Maker"}, {0xA405: 28}))
    content = path.read_bytes()
    start = content.index(b"Exif\0\0") + 6
    random = np.random.default_rng(0)
    for _ in range(200):
        spoilt = bytearray(content)
        for position in random.integers(start, start + 60, 4):
            spoilt[position] = random.integers(256)
        path.write_bytes(spoilt)
        assert probe(path).width == WIDTH
        assert read_image(path).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
def test_cut_off_and_damaged_files_end_in_one_line(tmp_path, suffix):
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    content = save(tmp_path / f"whole.{suffix}", noise).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    for size in (0, 1, 10, 100, len(content) // 2, len(content) - 200):
        path.write_bytes(content[:size])
        with pytest.raises(TpsfmError, match=rf"cannot read image .*cut\.{suffix}: .") as error:
            read_image(path)
        assert "\n" not in str(error.value)
    with pytest.raises(TpsfmError, match="empty"):
        path.write_bytes(b"")
        probe(path)
    for _ in range(100):
        spoilt = bytearray(content)
        for position in random.integers(0, len(content), 20):
            spoilt[position] = random.integers(256)
        path.write_bytes(spoilt)
        for read in (probe, read_image):
            try:
                read(path)
            except TpsfmError as error:
                assert "cut" in str(error) and "\n" not in str(error)


def test_what_can_not_be_read_is_told(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    for name, problem in (("text", "damaged"), ("folder", "director"), ("link", "No such"), ("none", "No such")):
        for read in (probe, read_image):
            with pytest.raises(TpsfmError, match=rf"{name}\.jpg: .*{problem}"):
                read(tmp_path / f"{name}.jpg")


def test_masks(tmp_path):
    allowed = colours()[:, :, 0] > 100
    save(tmp_path / "sub dir/a.jpg.png", np.where(allowed, 255, 0).astype(np.uint8))
    save(tmp_path / "one.jpg.png", allowed.astype(np.uint8))
    save(tmp_path / "16.jpg.png", allowed.astype(np.uint16))
    save(tmp_path / "bit.jpg.png", allowed)
    save(tmp_path / "red.jpg.png", np.dstack([allowed * 255, 0 * allowed, 0 * allowed]).astype(np.uint8))
    for name in ("sub dir/a.jpg", "one.jpg", "16.jpg", "bit.jpg", "red.jpg"):
        mask = read_mask(tmp_path, name, (WIDTH, HEIGHT))
        assert mask.dtype == bool and np.array_equal(mask, allowed), name
    assert read_mask(tmp_path, "other.jpg", (WIDTH, HEIGHT)) is None
    doubled = read_mask(tmp_path, "one.jpg", (2 * WIDTH, 2 * HEIGHT))
    assert np.array_equal(doubled, allowed.repeat(2, axis=0).repeat(2, axis=1))
    assert read_mask(tmp_path, "one.jpg", (WIDTH // 2, HEIGHT // 2)).shape == (HEIGHT // 2, WIDTH // 2)


def test_wrong_masks_are_told(tmp_path):
    save(tmp_path / "turned.jpg.png", np.zeros((WIDTH, HEIGHT), np.uint8))
    (tmp_path / "broken.jpg.png").write_bytes(b"")
    with pytest.raises(TpsfmError, match=r"turned\.jpg\.png is 32x48 .* 48x32"):
        read_mask(tmp_path, "turned.jpg", (WIDTH, HEIGHT))
    with pytest.raises(TpsfmError, match=r"broken\.jpg\.png"):
        read_mask(tmp_path, "broken.jpg", (WIDTH, HEIGHT))
    with pytest.raises(TpsfmError, match="none is not a folder"):
        read_mask(tmp_path / "none", "a.jpg", (WIDTH, HEIGHT))


def test_large_images_are_read_and_nothing_is_printed(tmp_path):
    save(tmp_path / "large.png", Image.new("1", (10_000, 10_000)))
    code = "import sys; import tpsfm.photos.images as images; print(images.read_image(sys.argv[1]).shape)"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "large.png"], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("(10000, 10000)\n", "")


def test_digest_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "b").write_bytes(b"x" * 3_000_000)
    (tmp_path / "c").write_bytes(b"x" * 2_999_999 + b"y")
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c
    with pytest.raises(TpsfmError, match="cannot read"):
        file_digest(tmp_path / "none")

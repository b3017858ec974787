"""Decoding of every format and kind of pixel, and of what is damaged."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import HEIGHT, WIDTH, colours, exif, png16, save
from tpsfm.errors import TpsfmError
from tpsfm.photos import read_image, read_photo, upright


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "tif", "TIFF", "webp", "bmp"])
def test_rgb_in_every_format(tmp_path, suffix):
    lossless = {"quality": 100} if suffix in ("jpg", "JPEG") else {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", colours(), **lossless)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - colours()).max() <= (6 if suffix in ("jpg", "JPEG") else 0)
    info = read_photo(path)
    assert (info.width, info.height, info.orientation) == (WIDTH, HEIGHT, 1)
    assert (info.make, info.model, info.focal_px, info.gps) == ("", "", None, None)


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
        assert read_photo(tmp_path / name).width == WIDTH


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "jpg", "tif", "webp"])
def test_orientation_is_told_but_not_applied(tmp_path, orientation, format):
    lossless = {"lossless": True} if format == "webp" else {"quality": 100} if format == "jpg" else {}
    path = save(tmp_path / f"a.{format}", colours(), exif=exif({0x0112: orientation}), **lossless)
    info = read_photo(path)
    assert info.size == (WIDTH, HEIGHT)
    image = read_image(path)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - colours()).max() <= 6
    assert info.mirrored == (orientation in (2, 4, 5, 7))
    assert np.array_equal(info.decode(), image[:, ::-1] if info.mirrored else image)
    assert np.array_equal(upright(info.decode(), info.orientation), upright(image, orientation))
    assert info.orientation in (1, 3, 6, 8)


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
        read_photo(path)
    for _ in range(100):
        spoilt = bytearray(content)
        for position in random.integers(0, len(content), 20):
            spoilt[position] = random.integers(256)
        path.write_bytes(spoilt)
        for read in (read_photo, read_image):
            try:
                read(path)
            except TpsfmError as error:
                assert "cut" in str(error) and "\n" not in str(error)


def test_what_can_not_be_read_is_told(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    for name, problem in (("text", "damaged"), ("folder", "director"), ("link", "No such"), ("none", "No such")):
        for read in (read_photo, read_image):
            with pytest.raises(TpsfmError, match=rf"{name}\.jpg: .*{problem}"):
                read(tmp_path / f"{name}.jpg")


def test_large_images_are_read_and_nothing_is_printed(tmp_path):
    save(tmp_path / "large.png", Image.new("1", (10_000, 10_000)))
    code = "import sys; import tpsfm.photos as photos; print(photos.read_image(sys.argv[1]).shape)"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "large.png"], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("(10000, 10000)\n", "")


def test_warnings_are_hidden_while_a_file_is_read_and_only_then(tmp_path):
    path = save(tmp_path / "large.png", Image.new("1", (10_000, 10_000)))
    code = (
        "import sys, warnings, numpy, PIL.Image; before = list(warnings.filters); import tpsfm.photos as photos;"
        "assert warnings.filters == before; photos.read_image(sys.argv[1]); photos.read_photo(sys.argv[1]);"
        "assert warnings.filters == before; PIL.Image.open(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert run.returncode == 0
    assert "DecompressionBombWarning" in run.stderr  # those of others are still shown


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, AttributeError])
def test_what_is_not_the_files_fault_is_not_called_so(tmp_path, monkeypatch, error):
    path = save(tmp_path / "a.jpg", colours(), exif=exif({0x010F: "Maker"}))

    def fail(*arguments):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "getexif", fail)
        with pytest.raises(error):
            read_photo(path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(error):
        read_image(path)

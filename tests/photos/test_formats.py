"""Formats that Pillow reads only with help, and photos that are too large to be decoded whole."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import HEIGHT, WIDTH, colours, exif, save
from tpsfm.errors import TpsfmError
from tpsfm.features.sift import SIFT
from tpsfm.features.upright import upright_features
from tpsfm.photos import pixels, read_image, read_photo


@pytest.mark.parametrize("format", ["JPEG2000", "PPM", "TGA", "GIF", "MPO", "AVIF"])
def test_formats_are_known_by_their_content(tmp_path, format):
    if format == "AVIF" and "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow can't write AVIF")
    path = save(tmp_path / f"a.{format.lower()}", colours(), format=format)
    if format != "TGA":  # which has no mark of its own
        path = path.rename(tmp_path / "without suffix")
    assert read_photo(path).size == (WIDTH, HEIGHT)
    assert np.abs(read_image(path).astype(int) - colours()).mean() < 12  # GIF has 256 colours


def test_the_first_frame_counts(tmp_path):
    frames = [Image.fromarray(colours()), Image.fromarray(255 - colours())]
    for name in ("a.gif", "a.webp", "a.tif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert np.abs(read_image(tmp_path / name).astype(int) - colours()).mean() < 12, name


def test_heic_is_read_or_what_it_needs_is_told(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"  # whatever its name
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(TpsfmError, match=r"a\.jpg: HEIC .* pip install 'tpsfm\[heic\]'"):
            read_photo(path)
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    whole = save(tmp_path / "b.heic", Image.fromarray(colours()), exif=exif({0x010F: "Maker"}), quality=95)
    assert (read_photo(whole).size, read_photo(whole).make) == ((WIDTH, HEIGHT), "Maker")
    assert np.abs(read_photo(whole).decode().astype(int) - colours()).mean() < 8


def test_raw_photos_tell_what_they_need(tmp_path, monkeypatch):
    (tmp_path / "a.NEF").write_bytes(b"II*\0" + bytes(100))
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "rawpy", None)
        for read in (read_photo, read_image):
            with pytest.raises(TpsfmError, match=r"a\.NEF: raw photos need .* pip install 'tpsfm\[raw\]'"):
                read(tmp_path / "a.NEF")
    pytest.importorskip("rawpy")
    with pytest.raises(TpsfmError, match=r"cannot read image .*a\.NEF: ."):
        read_photo(tmp_path / "a.NEF")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_very_large_photos_are_reduced_and_their_keypoints_are_those_of_the_whole(tmp_path, monkeypatch, suffix):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (60, 81), np.uint8)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(small).resize((811, 600), Image.Resampling.BICUBIC))
    whole = SIFT(500).extract(read_image(path))
    monkeypatch.setattr(pixels, "LARGEST_WHOLE", 200_000)
    photo = read_photo(path)
    assert photo.size == (811, 600) and photo.decoded_size == (406, 300)
    image = photo.decode()
    assert image.shape == (300, 406)
    found = upright_features(SIFT(200), image, None, 6, photo.size)
    assert found.image_size == (811, 600)
    distance = np.linalg.norm(found.keypoints[:, None] - whole.keypoints, axis=2).min(1)
    assert np.median(distance) < 1.0


def test_an_image_beyond_all_limits_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", colours())
    monkeypatch.setattr(pixels, "LARGEST", WIDTH * HEIGHT // 2)
    with pytest.raises(TpsfmError, match=r"a\.png: .*exceeds limit"):
        read_image(path)
    monkeypatch.undo()
    assert read_image(path).shape == (HEIGHT, WIDTH, 3)

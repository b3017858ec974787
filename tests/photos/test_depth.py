"""Images of 10, 12 and 16 bits and of floats, brought to 8 bits alike for a folder."""

import cv2
import numpy as np
import pytest

from tests.support.pictures import colours, save
from tpsfm.errors import TpsfmError
from tpsfm.photos import PhotoCatalog, read_image
from tpsfm.photos.depth import levels_of

GREY = colours()[:, :, 0]


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_fewer_bits_in_16_fill_the_range(tmp_path, bits):
    values = (GREY / 255 * (2**bits - 1)).astype(np.uint16)
    for suffix in ("png", "tif"):
        assert np.abs(read_image(save(tmp_path / f"a.{suffix}", values)).astype(int) - GREY).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colours_of_12_bits_in_16(tmp_path, suffix):
    values = (colours() / 255 * 4095).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), values[:, :, ::-1])
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == colours().shape
    assert np.abs(image.astype(int) - colours()).max() <= 1


def test_floats_of_any_range_use_all_levels(tmp_path):
    unit = GREY.astype(np.float32) / 235
    for name, values in {"kelvin": 280 + 20 * unit, "negative": unit - 5, "wide": 65535 * unit}.items():
        image = read_image(save(tmp_path / f"{name}.tif", values))
        assert image.min() == 0 and image.max() >= 234, name
        assert len(np.unique(image)) > 40
    holes = np.where(GREY > 200, np.nan, 280 + 20 * unit).astype(np.float32)
    image = read_image(save(tmp_path / "holes.tif", holes))
    assert (image[GREY > 200] == 0).all() and image.max() == 255


def test_a_constant_image_and_one_without_a_finite_value_are_read(tmp_path):
    for value in (7.0, np.nan):
        assert np.ptp(read_image(save(tmp_path / "a.tif", np.full((8, 9), value, np.float32)))) == 0


def test_a_folder_has_one_pair_of_levels_and_keeps_it(tmp_path):
    cold, warm = (7000 + GREY.astype(np.uint16) * factor for factor in (1, 4))  # thermal, of 14 bits
    for name, values in (("a/1.png", cold), ("a/2.png", warm), ("b/1.png", cold)):
        save(tmp_path / "photos" / name, values)
    with PhotoCatalog(tmp_path / "photos", tmp_path / "photos.json") as catalog:
        first, second, other = (catalog[name] for name in ("a/1.png", "a/2.png", "b/1.png"))
    assert first.deep and first.levels == second.levels != other.levels
    assert first.levels[1] == pytest.approx(7000 + 4 * np.percentile(GREY, 99.9), abs=4)
    assert first.decode().max() < 70 and second.decode().max() == other.decode().max() == 255
    save(tmp_path / "photos/a/3.png", warm * 2)
    with PhotoCatalog(tmp_path / "photos", tmp_path / "photos.json") as catalog:
        assert catalog["a/3.png"].levels == first.levels
        assert catalog["a/1.png"].content == first.content != first.digest


def test_levels_are_those_of_all_images():
    assert levels_of([np.full((4, 4), 5.0), np.full((4, 4), 300.0)]) == (0, 1023)
    assert levels_of([np.full((4, 4), 65000, np.uint16), np.full((4, 4), 66000)]) == (65000, 66000)


def test_deep_photos_that_can_not_be_decoded_are_told_when_they_are(tmp_path):
    save(tmp_path / "photos/a.png", GREY.astype(np.uint16) * 200)
    whole = (tmp_path / "photos/a.png").read_bytes()
    (tmp_path / "photos/a.png").write_bytes(whole[: len(whole) // 2])
    with PhotoCatalog(tmp_path / "photos", tmp_path / "photos.json") as catalog:
        photo = catalog["a.png"]
    assert photo.deep and photo.levels is None
    with pytest.raises(TpsfmError, match="cannot read image"):
        photo.decode()

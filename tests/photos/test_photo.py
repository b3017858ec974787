"""The record of a photo: header, EXIF, digest."""

import math

import numpy as np
import pytest
from PIL.TiffImagePlugin import IFDRational

from tests.support.pictures import HEIGHT, WIDTH, colours, exif, save
from tpsfm.errors import TpsfmError
from tpsfm.photos import file_digest, read_image, read_photo
from tpsfm.photos.exif import focal_px, gps
from tpsfm.view.window import save_snapshot


def test_exif_camera_focal_and_place(tmp_path):
    place = {1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 36.0), 5: b"\x01", 6: 12.5}
    tags = {0x010F: "Maker\0 ", 0x0110: "M 1"}
    path = save(tmp_path / "a.jpg", colours(), exif=exif(tags, {0xA405: 28}, place))
    info = read_photo(path)
    assert (info.make, info.model) == ("Maker", "M 1")
    assert info.focal_px == pytest.approx(28 / math.hypot(36, 24) * math.hypot(WIDTH, HEIGHT))
    assert info.gps == pytest.approx((-(33 + 51.5 / 60), 151.21, -12.5))


def test_exif_focal_by_the_sensor_and_without_altitude(tmp_path):
    # A 36 mm wide sensor of 4800 pixels, the photo scaled down to 48: 24 mm are 32 pixels.
    camera = {0x920A: 24.0, 0xA20E: 4800 / 3.6, 0xA210: 3, 0xA002: 4800, 0xA003: 3200}
    place = {1: "N", 2: (10.0, 30.0, 0.0), 3: "W", 4: (20.0, 0.0, 36.0)}
    info = read_photo(save(tmp_path / "a.jpg", colours(), exif=exif({}, camera, place)))
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
    info = read_photo(save(tmp_path / "a.jpg", colours(), exif=exif({0x0112: 9}, camera, place)))
    assert (info.orientation, info.focal_px, info.gps) == (1, None, None)


@pytest.mark.parametrize("equivalent", [0, 1, 3, 500, 65535])
def test_focal_lengths_that_no_camera_has_are_none(tmp_path, equivalent):
    path = save(tmp_path / "a.jpg", colours(), exif=exif({}, {0xA405: equivalent}))
    assert read_photo(path).focal_px is None


def test_an_impossible_equivalent_leaves_the_one_by_the_sensor(tmp_path):
    camera = {0xA405: 1, 0x920A: 24.0, 0xA20E: 4800 / 3.6, 0xA210: 3, 0xA002: 4800, 0xA003: 3200}
    path = save(tmp_path / "a.jpg", colours(), exif=exif({}, camera))
    assert read_photo(path).focal_px == pytest.approx(32, rel=1e-3)
    huge = save(tmp_path / "b.jpg", colours(), exif=exif({}, {**camera, 0xA20E: 2e9}))
    assert read_photo(huge).focal_px is None


def test_a_digital_zoom_makes_another_camera_whose_focal_length_is_not_told(tmp_path):
    device = {0x010F: "Maker", 0x0110: "Phone"}
    plain, zoomed, none = (
        read_photo(save(tmp_path / f"{zoom}.jpg", colours(), exif=exif(device, {0xA405: 28, 0xA404: zoom})))
        for zoom in (1, 1.6, 0)
    )
    assert (plain.zoom, zoomed.zoom, none.zoom) == (1, 1.6, 1)
    assert plain.focal_px == none.focal_px and zoomed.focal_px is None
    assert plain.camera_key == none.camera_key != zoomed.camera_key


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
        assert read_photo(path).width == WIDTH
        assert read_image(path).shape == (HEIGHT, WIDTH, 3)


def test_digest_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "b").write_bytes(b"x" * 3_000_000)
    (tmp_path / "c").write_bytes(b"x" * 2_999_999 + b"y")
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c
    with pytest.raises(TpsfmError, match="cannot read"):
        file_digest(tmp_path / "none")


def test_a_snapshot_is_no_photo(tmp_path):
    save_snapshot(colours(), tmp_path / "shot.png")
    with pytest.raises(TpsfmError, match=r"shot\.png is a picture of a map"):
        read_photo(tmp_path / "shot.png")

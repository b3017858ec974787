"""Records of photos, kept from run to run."""

import builtins
import os
import shutil
import time

import numpy as np
import pytest

from tests.support.pictures import colours, exif, save
from tpsfm.errors import TpsfmError
from tpsfm.photos import Photo, PhotoCatalog, file_digest, kept_photos, read_image, read_photo

PLACE = {1: "N", 2: (10.0, 30.0, 0.0), 3: "W", 4: (20.0, 0.0, 36.0)}


@pytest.fixture
def photos(tmp_path):
    save(tmp_path / "photos/a.jpg", colours(), exif=exif({0x0112: 6, 0x010F: "Maker"}, {0xA405: 28}, PLACE))
    save(tmp_path / "photos/sub/ü.png", colours()[:, ::-1])
    (tmp_path / "photos/broken.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def readable(catalog) -> dict[str, Photo]:
    found = {}
    for name in catalog.names:
        if name != "broken.jpg":
            found[name] = catalog[name]
    return found


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of the files that are opened for reading from now on."""
    names = []
    real = builtins.open

    def listening(file, mode="r", *arguments, **options):
        if "r" in mode:
            names.append(os.path.basename(os.fspath(file)))
        return real(file, mode, *arguments, **options)

    monkeypatch.setattr(builtins, "open", listening)
    return names


def test_a_record_takes_one_visit_and_the_next_run_none(photos, tmp_path, opened):
    with PhotoCatalog(photos, tmp_path / "photos.json") as catalog:
        assert catalog.names == ["a.jpg", "broken.jpg", "sub/ü.png"]
        first = readable(catalog)
    assert opened == ["a.jpg", "ü.png"]
    photo = first["a.jpg"]
    assert photo.digest == file_digest(photos / "a.jpg")
    assert (photo.orientation, photo.make, photo.size) == (6, "Maker", (48, 32))
    assert np.array_equal(photo.decode(), read_image(photos / "a.jpg"))
    del opened[:]
    with PhotoCatalog(photos, tmp_path / "photos.json") as catalog:
        again = readable(catalog)
    assert opened == []
    for name, photo in again.items():
        assert photo.path == photos / name
        assert repr(photo) == repr(first[name])  # nan is not equal to itself
    assert repr(kept_photos(tmp_path / "photos.json", photos)) == repr(again)


def test_records_are_kept_though_the_photos_are_gone(photos, tmp_path):
    with PhotoCatalog(photos, tmp_path / "photos.json") as catalog:
        readable(catalog)
    shutil.rmtree(photos)
    kept = kept_photos(tmp_path / "photos.json", tmp_path / "elsewhere")
    assert sorted(kept) == ["a.jpg", "sub/ü.png"]
    assert kept["a.jpg"].path == tmp_path / "elsewhere/a.jpg"
    assert kept["a.jpg"].gps[:2] == pytest.approx((10.5, -20.01)) and np.isnan(kept["a.jpg"].gps[2])


def test_a_changed_photo_is_read_again_though_size_and_time_are_the_same(photos, tmp_path):
    for name, pixels in (("1.bmp", colours()), ("2.bmp", colours()[::-1])):
        save(photos / name, pixels)
        os.utime(photos / name, ns=(0, 0))
    with PhotoCatalog(photos, tmp_path / "photos.json") as catalog:
        before = catalog["1.bmp"]
    time.sleep(0.02)
    os.replace(photos / "2.bmp", photos / "1.bmp")
    assert (photos / "1.bmp").stat().st_mtime_ns == 0
    with PhotoCatalog(photos, tmp_path / "photos.json") as catalog:
        assert catalog["1.bmp"].digest == file_digest(photos / "1.bmp") != before.digest
    assert "2.bmp" not in kept_photos(tmp_path / "photos.json", photos)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "\0\xff",
        '{"version": 0, "photos": {}}',
        '{"version": 1, "photos": {"a.jpg": 3}}',
        '{"version": 1, "photos": {"a.jpg": [1, 2, 3, {"width": 1}]}}',
    ],
)
def test_a_damaged_file_of_records_is_made_anew(photos, tmp_path, content):
    (tmp_path / "photos.json").write_text(content, encoding="latin-1")
    with PhotoCatalog(photos, tmp_path / "photos.json") as catalog:
        assert catalog["a.jpg"].make == "Maker"
    assert list(kept_photos(tmp_path / "photos.json", photos)) == ["a.jpg"]


def test_an_interrupt_keeps_what_was_read(photos, tmp_path):
    with pytest.raises(KeyboardInterrupt), PhotoCatalog(photos, tmp_path / "photos.json") as catalog:
        assert catalog["a.jpg"].make == "Maker"
        raise KeyboardInterrupt
    assert list(kept_photos(tmp_path / "photos.json", photos)) == ["a.jpg"]


def test_what_can_not_be_read_is_told(photos, tmp_path):
    with PhotoCatalog(photos, tmp_path / "photos.json") as catalog:
        with pytest.raises(TpsfmError, match=r"broken\.jpg: it is damaged"):
            catalog["broken.jpg"]
        with pytest.raises(TpsfmError, match=r"gone\.jpg: No such file"):
            catalog["gone.jpg"]


def test_photos_of_one_camera_have_one_key(photos):
    photo = read_photo(photos / "a.jpg")
    assert photo.camera_key == read_photo(photos / "a.jpg").camera_key is not None
    assert read_photo(photos / "sub/ü.png").camera_key is None

"""Which photos a folder holds."""

import os
from unicodedata import normalize

import pytest

from tests.support.pictures import colours, save
from tpsfm.errors import TpsfmError
from tpsfm.photos import list_images
from tpsfm.photos.listing import read_list


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
    for path, problem in (("none", "does not exist"), ("a.jpg", "is not a folder"), ("empty", "it is empty")):
        with pytest.raises(TpsfmError, match=problem):
            list_images(tmp_path / path)


def formats(folder) -> dict[str, bool]:
    """Files by name, and whether they are photos."""
    for format, suffix in (("JPEG", "jpg"), ("JPEG2000", "jp2"), ("PPM", "ppm"), ("TGA", "tga"), ("GIF", "gif")):
        save(folder / f"a.{suffix}", colours(), format=format)
    for suffix in ("JFIF", "jpe", "mpo", "dat", "jpg_original", "THM", "xmp"):
        save(folder / f"b.{suffix}", colours(), format="JPEG")
    save(folder / "no suffix", colours(), format="WEBP")
    (folder / "c.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "c.bin").write_bytes(b"\0\0\0\x18ftypmp42")
    (folder / "notes.txt").write_text("BMW II* no image")
    (folder / "d.NEF").touch()
    (folder / "a.cr2").touch()  # beside a.jpg
    (folder / "e.jpg").write_text("no image either, but called one")
    others = ("b.jpg_original", "b.THM", "c.bin", "notes.txt", "a.cr2")
    return {path.name: path.name not in others for path in folder.iterdir()}


def test_photos_are_known_by_content_and_what_is_passed_over_is_told_once(tmp_path, caplog):
    wanted = formats(tmp_path)
    for _ in range(2):
        assert list_images(tmp_path) == sorted(name for name, photo in wanted.items() if photo)
    told = f"{tmp_path}: passed over 5 files that are no photos"
    assert [record.message for record in caplog.records] == [
        f"{told} (1 .bin, 1 .jpg_original, 1 .thm, 1 .txt, 1 raw beside another image)"
    ]


def test_linked_folders_are_followed_each_once(tmp_path):
    photos, disk = tmp_path / "photos", tmp_path / "disk"
    save(disk / "day1/1.jpg", colours())
    save(disk / "day2/2.jpg", colours())
    photos.mkdir()
    (photos / "a link").symlink_to(disk / "day1")
    (photos / "again").symlink_to(disk / "day1")
    (photos / "round").symlink_to(photos)
    (disk / "day2/up").symlink_to(disk)
    (photos / "z").symlink_to(disk / "day2")
    assert list_images(photos) == ["a link/1.jpg", "z/2.jpg"]


def test_our_own_folders_and_masks_are_no_photos(tmp_path, caplog):
    for name in ("a.jpg", "b.png", "masks/a.jpg.png", "other/b.png.png", "mine/a.png", "old.jpg.png"):
        save(tmp_path / name, colours())
    for name in ("map/run.json", "map/features.h5", "found/localization.json", "not ours/run.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for folder in ("map/images", "found/map/images", "not ours"):
        save(tmp_path / folder / "c.jpg", colours())
    assert list_images(tmp_path, tmp_path / "mine") == ["a.jpg", "b.png", "not ours/c.jpg", "old.jpg.png"]
    assert "passed over 3 files that are no photos (1 .json, 2 mask)" in caplog.text
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("no image")
    with pytest.raises(TpsfmError, match="none of its 1 files is one"):
        list_images(tmp_path / "text")


def test_a_list_of_photos(tmp_path):
    names = ["a b/c.jpg", "Grün.jpg", "z.jpg"]
    for name in (*names, "not listed.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    file = tmp_path / "list.txt"
    for folder in ("photos", "link"):
        absolute = tmp_path / folder / "z.jpg"
        file.write_text(f"# comment\n\n./a b/c.jpg\r\n{normalize('NFD', 'Grün.jpg')}\n{absolute}\nz.jpg\n")
        assert read_list(file, tmp_path / "photos") == sorted(names)


def test_a_bad_list_of_photos_is_told_by_its_row(tmp_path):
    (tmp_path / "a.jpg").touch()
    file = tmp_path / "list.txt"
    rows = {
        "b.jpg": "no photo 'b.jpg'",
        "../a.jpg": "leads out of",
        "/a.jpg": "leads out of",
        "a.jpg PINHOLE 3 4": "no photo",
    }
    for row, problem in rows.items():
        file.write_text(f"a.jpg\n{row}\n")
        with pytest.raises(TpsfmError, match=f"row 2 of .*{problem}"):
            read_list(file, tmp_path)
    for content, problem in ((b"# nothing", "names no photo"), (b"\xff\xd8\xff", "isn't text")):
        file.write_bytes(content)
        with pytest.raises(TpsfmError, match=problem):
            read_list(file, tmp_path)
    with pytest.raises(TpsfmError, match="cannot read the list of photos"):
        read_list(tmp_path / "none.txt", tmp_path)
    with pytest.raises(TpsfmError, match="does not exist"):
        read_list(file, tmp_path / "none")

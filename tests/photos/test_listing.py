"""Which photos a folder holds."""

import os

import pytest

from tpsfm.errors import TpsfmError
from tpsfm.photos import list_images


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

"""Masks of any kind, and wrong ones."""

import numpy as np
import pytest

from tests.support.pictures import HEIGHT, WIDTH, colours, save
from tpsfm.errors import TpsfmError
from tpsfm.photos import Masks, Photo, upright


def test_masks(tmp_path):
    allowed = colours()[:, :, 0] > 100
    save(tmp_path / "sub dir/a.jpg.png", np.where(allowed, 255, 0).astype(np.uint8))
    save(tmp_path / "one.jpg.png", allowed.astype(np.uint8))
    save(tmp_path / "16.jpg.png", allowed.astype(np.uint16))
    save(tmp_path / "bit.jpg.png", allowed)
    save(tmp_path / "red.jpg.png", np.dstack([allowed * 255, 0 * allowed, 0 * allowed]).astype(np.uint8))
    for name in ("sub dir/a.jpg", "one.jpg", "16.jpg", "bit.jpg", "red.jpg"):
        mask = read(tmp_path, name)
        assert mask.dtype == bool and np.array_equal(mask, allowed), name
    assert read(tmp_path, "other.jpg") is None
    doubled = read(tmp_path, "one.jpg", (2 * WIDTH, 2 * HEIGHT))
    assert np.array_equal(doubled, allowed.repeat(2, axis=0).repeat(2, axis=1))
    assert read(tmp_path, "one.jpg", (WIDTH // 2, HEIGHT // 2)).shape == (HEIGHT // 2, WIDTH // 2)


def test_wrong_masks_are_told(tmp_path):
    save(tmp_path / "turned.jpg.png", np.zeros((WIDTH, HEIGHT), np.uint8))
    (tmp_path / "broken.jpg.png").write_bytes(b"")
    with pytest.raises(TpsfmError, match=r"turned\.jpg\.png is 32x48 .* 48x32"):
        read(tmp_path, "turned.jpg")
    with pytest.raises(TpsfmError, match=r"broken\.jpg\.png"):
        read(tmp_path, "broken.jpg")
    with pytest.raises(TpsfmError, match=r"no folder of masks .*none"):
        read(tmp_path / "none", "a.jpg")


def read(masks, name, size=(WIDTH, HEIGHT), **known):
    return Masks(masks, masks / "no photos", [name]).read(Photo(*size, name=name, **known))


@pytest.mark.parametrize(
    "file", ["a.jpg.png", "a.png", "a.JPG.PNG", "a.tif", "a.jpg.jpg", "a.jpg", "day/a.jpg.png", "day/a.png"]
)
def test_names_of_masks(tmp_path, file):
    allowed = colours()[:, :, 0] > 100
    picture = np.where(allowed, 255, 0).astype(np.uint8)
    save(tmp_path / "masks" / file, picture)
    masks = Masks(tmp_path / "masks", tmp_path, ["day/a.jpg", "day/b.jpg"])
    mask = masks.read(Photo(WIDTH, HEIGHT, name="day/a.jpg"))
    assert (mask != allowed).mean() < 0.03  # a JPEG's edges
    assert masks.read(Photo(WIDTH, HEIGHT, name="day/b.jpg")) is None
    assert masks.summary() == f"masks: 1 of 2 photos have one in {tmp_path / 'masks'}; without: day/b.jpg"


def test_what_fits_nothing_is_counted(tmp_path):
    for number in range(5):
        save(tmp_path / f"x{number}.png", colours())
    masks = Masks(tmp_path, tmp_path / "none", ["a.jpg"])
    assert not masks.complete
    assert masks.summary().split("; ")[1:] == [
        "without: a.jpg",
        "of no photo: x0.png, x1.png, x2.png and 2 more",
        "the mask of a.jpg would be a.jpg.png",
    ]
    save(tmp_path / "whole/a.png", colours())
    assert Masks(tmp_path / "whole", tmp_path, ["a.jpg"]).complete


def test_photos_beside_their_masks_are_no_masks(tmp_path):
    save(tmp_path / "a.jpg", colours())
    save(tmp_path / "b.jpg", colours())
    save(tmp_path / "b.jpg.png", colours())
    masks = Masks(tmp_path, tmp_path, ["a.jpg", "b.jpg"])
    assert masks.found == {"b.jpg": tmp_path / "b.jpg.png"}


def test_the_alpha_channel_is_the_mask_where_it_varies(tmp_path):
    allowed = colours()[:, :, 0] > 100
    full = np.full_like(colours()[:, :, 0], 255)
    alpha = np.where(allowed, 255, 0).astype(np.uint8)
    save(tmp_path / "a.png", np.dstack([full, full, full, alpha]))
    save(tmp_path / "b.png", np.dstack([alpha, alpha, alpha, full]))
    save(tmp_path / "c.png", np.dstack([0 * full, alpha]))
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        assert np.array_equal(read(tmp_path, name), allowed), name


def test_masks_of_turned_and_mirrored_photos(tmp_path):
    allowed = colours()[:, :, 0] > 100
    save(tmp_path / "a.png", upright(allowed, 6))
    assert np.array_equal(read(tmp_path, "a.jpg", orientation=6), allowed)
    save(tmp_path / "b.png", allowed)
    assert np.array_equal(read(tmp_path, "b.jpg", mirrored=True), allowed[:, ::-1])

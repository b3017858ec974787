"""Masks of any kind, and wrong ones."""

import numpy as np
import pytest

from tests.support.pictures import HEIGHT, WIDTH, colours, save
from tpsfm.errors import TpsfmError
from tpsfm.photos import read_mask


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

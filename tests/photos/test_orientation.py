"""Turning pixels upright and keypoints back, against Pillow."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.support.pictures import HEIGHT, WIDTH, colours
from tpsfm.photos import decoded_keypoints, upright, upright_keypoints


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
    assert np.array_equal(upright_keypoints(mapped, orientation, (WIDTH, HEIGHT)), keypoints)
    column, row = mapped.astype(int).T
    assert np.array_equal(pixels[row, column], seen.reshape(-1, 3))
    assert decoded_keypoints(np.zeros((0, 2)), orientation, (WIDTH, HEIGHT)).shape == (0, 2)

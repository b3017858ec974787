"""Photos that show nothing have no keypoints; those of little contrast, and small ones, keep theirs."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tpsfm.features import load_extractor
from tpsfm.features.upright import is_flat, upright_features


@pytest.fixture(scope="module")
def photo(courtyard) -> np.ndarray:
    return np.asarray(Image.open(courtyard / "images/view_003.jpg"))


@pytest.fixture(scope="module")
def extractor():
    return load_extractor("tpr", max_keypoints=2000, device="cpu", min_score=0.0)


def grainy(image: np.ndarray, noise: float) -> np.ndarray:
    return np.clip(image + np.random.default_rng(0).normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def count(extractor, image: np.ndarray) -> int:
    return len(upright_features(extractor, image, None, 1))


def test_blank_dark_and_blurred_photos_have_no_keypoints(photo, extractor):
    blank = np.full_like(photo, 128)
    assert count(extractor, photo) == 2000
    assert count(extractor, blank) == 0
    assert count(extractor, grainy(blank, 3)) == 0
    assert count(extractor, grainy(photo * 0.01, 1)) == 0
    assert count(extractor, cv2.GaussianBlur(photo, (0, 0), 20)) == 0


def test_photos_of_little_contrast_small_and_soft_ones_keep_them(photo, extractor):
    assert count(extractor, grainy(photo * 0.1 + 60, 0.5)) == 2000
    assert count(extractor, cv2.GaussianBlur(photo, (0, 0), 2)) == 2000
    assert count(extractor, cv2.resize(photo, (120, 90), interpolation=cv2.INTER_AREA)) > 100


def test_noise_alone_is_flat_whatever_the_size(photo):
    assert not is_flat(photo) and not is_flat(photo[..., 0])
    assert is_flat(grainy(np.full((2000, 3000), 90.0), 5))
    assert is_flat(np.full((3, 5), 7, np.uint8))

"""RootSIFT on images whose keypoints are known."""

import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.features import load_extractor
from tpsfm.features.sift import SIFT


def blobs(size=(320, 480), sigma=5.0, seed=0):
    """A grey image [H, W] of Gaussian blobs 60 px apart, and their centres [N, 2]."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = np.full(size, 100.0)
    centres = []
    for cy in range(40, height - 20, 60):
        for cx in range(40, width - 20, 60):
            centre = np.array([cx, cy]) + rng.uniform(-3, 3, 2)
            image += 100 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
            centres.append(centre)
    return np.rint(image).clip(0, 255).astype(np.uint8), np.array(centres)


def texture(size=(240, 320), seed=0):
    import cv2

    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    image = sum(scale * cv2.GaussianBlur(noise, (0, 0), scale) for scale in (1, 2, 4, 8))
    return cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.mark.parametrize("max_size", [1600, 240])
def test_keypoints_lie_where_the_blobs_are(max_size):
    image, centres = blobs()
    keypoints = SIFT(max_size=max_size).extract(image).keypoints
    nearest = np.linalg.norm(keypoints[None] - centres[:, None], axis=2).argmin(1)
    offsets = keypoints[nearest] - centres
    assert np.abs(offsets).max() < 0.5
    assert np.abs(offsets.mean(0)).max() < 0.08  # no bias: neither from the first octave nor from shrinking


def test_contract():
    extractor = load_extractor("sift", max_keypoints=200, max_size=1000, device="cpu")
    image = texture()
    features = extractor.extract(image)
    assert len(features) == 200
    assert features.keypoints.dtype == features.scores.dtype == features.descriptors.dtype == np.float32
    assert features.descriptors.shape == (200, extractor.dim)
    assert features.image_size == (320, 240)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    assert (np.diff(features.scores) <= 0).all()
    everything = SIFT(max_keypoints=100_000).extract(image)
    np.testing.assert_array_equal(everything.scores[:200], features.scores)  # the strongest ones were kept

    again = extractor.extract(np.repeat(image[..., None], 3, 2))
    np.testing.assert_array_equal(again.keypoints, features.keypoints)
    assert extractor.fingerprint != SIFT(max_keypoints=201).fingerprint


@pytest.mark.parametrize("max_size", [1600, 200])
def test_mask(max_size):
    image = texture()
    mask = np.zeros(image.shape, bool)
    mask[50:150, 100:301] = True
    features = SIFT(max_size=max_size).extract(image, mask)
    assert len(features) > 20
    x, y = np.rint(features.keypoints).astype(int).T
    assert mask[y, x].all()
    assert len(SIFT().extract(image, np.zeros_like(mask))) == 0


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (12, 900), (40, 40, 3)])
def test_nothing_to_find(shape):
    features = SIFT(max_size=100).extract(np.full(shape, 128, np.uint8))
    assert features.keypoints.shape == (0, 2)
    assert features.descriptors.shape == (0, 128)
    assert features.image_size == (shape[1], shape[0])


def test_matches_a_rotated_copy():
    image = texture()
    first, second = SIFT().extract(image), SIFT().extract(np.ascontiguousarray(np.rot90(image)))
    similarity = first.descriptors @ second.descriptors.T
    nearest, back = similarity.argmax(1), similarity.argmax(0)
    mutual = np.flatnonzero(back[nearest] == np.arange(len(nearest)))
    x, y = first.keypoints[mutual].T
    expected = np.stack([y, image.shape[1] - 1 - x], 1)
    right = np.linalg.norm(second.keypoints[nearest[mutual]] - expected, axis=1) < 1
    assert len(mutual) > 0.8 * len(first)
    assert right.mean() > 0.9


@pytest.mark.parametrize("options", [{"max_keypoints": 0}, {"max_size": 3}])
def test_options_out_of_range(options):
    with pytest.raises(TpsfmError, match="at least"):
        SIFT(**options)

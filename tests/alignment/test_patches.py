"""Patches found again: displacements are exact, what can't be found is refused."""

import cv2
import numpy as np
import pytest
import torch

from tpsfm.alignment.patches import RADIUS, align_patches, read_patches, smoothed

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def texture(seed: int = 0, height: int = 240, width: int = 320) -> np.ndarray:
    """uint8 [H, W], smooth enough to be sampled between its pixels."""
    noise = np.random.default_rng(seed).normal(128, 160, (height, width)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.0).clip(0, 255).astype(np.uint8)


def warped(image: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """An image seen through a homography, sampled by Lanczos and blurred as a lens does."""
    size = image.shape[::-1]
    return cv2.warpPerspective(image, homography, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)


def places(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform((60, 60), (260, 180), (count, 2)).astype(np.float32)


def align(first, second, centres, keypoints, warps, device="cpu"):
    tensors = (torch.from_numpy(np.asarray(a, np.float32)).to(device) for a in (centres, keypoints, warps))
    centres, keypoints, warps = tensors
    pixels = read_patches(smoothed(first, device), centres, radius=RADIUS + 1)
    return align_patches(smoothed(second, device), pixels, keypoints, warps)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("gain, offset", [(1.0, 0.0), (0.6, 40.0)])
def test_displacements_under_an_affine_warp_and_another_light(device, gain, offset):
    first = texture()
    angle, scale = np.radians(12), 0.9
    affine = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([160, 120]) - affine @ [160, 120] + [3.3, -2.6]
    homography = np.vstack([np.column_stack([affine, shift]), [0, 0, 1]])
    second = (gain * warped(first, homography).astype(float) + offset).round().clip(0, 255).astype(np.uint8)
    centres = places(200)
    truth = centres @ affine.T + shift
    starts = truth + np.random.default_rng(2).normal(0, 0.7, truth.shape)
    found = align(first, second, centres, starts, np.tile(affine, (200, 1, 1)), device)
    good = found.accepted(0.8, 3.0)
    assert good.mean() > 0.97
    error = np.linalg.norm(starts + found.displacement - truth, axis=1)[good]
    assert np.median(error) < 0.02 and np.quantile(error, 0.95) < 0.06


def test_a_place_that_is_right_stays():
    image = texture()
    centres = places(50)
    found = align(image, image, centres, centres, np.tile(np.eye(2), (50, 1, 1)))
    assert np.abs(found.displacement).max() < 1e-2 and (found.zncc > 0.999).all()


def test_what_is_not_there_is_refused():
    first, other = texture(0), texture(5)
    centres = places(300)
    found = align(first, other, centres, centres, np.tile(np.eye(2), (300, 1, 1)))
    assert found.accepted(0.8, 3.0).mean() < 0.02


def test_flat_and_outside_patches_have_no_correlation():
    image = texture()
    image[:, 160:] = 90
    centres = np.array([[250, 100], [40, 40], [40, 40]], np.float32)
    keypoints = np.array([[250, 100], [-3, 40], [40, 400]], np.float32)
    found = align(image, image, centres, keypoints, np.tile(np.eye(2), (3, 1, 1)))
    assert np.isnan(found.zncc).all() and not found.accepted(-1, np.inf, np.inf).any()


def test_no_patches_at_all():
    image = texture()
    found = align(image, image, np.empty((0, 2)), np.empty((0, 2)), np.empty((0, 2, 2)))
    assert found.displacement.shape == (0, 2) and len(found.zncc) == 0

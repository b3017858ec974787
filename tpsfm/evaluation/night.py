"""Synthetic night photos from photos by day, for benchmarks without real night photos."""

from __future__ import annotations

import cv2
import numpy as np

_REGAINED = 0.5  # share of the lost stops that the camera's gain brings back
_FULL_WELL = 6000.0  # electrons of a white pixel by day
_READ_NOISE = 3.0  # electrons
_LAMPS = (3, 8)  # how many, at least and at most
_LAMP_RADIUS = (0.004, 0.012)  # of the shorter side
_MOTION = (0.001, 0.004)  # length of the blur, of the longer side


def night(image: np.ndarray, seed: int, stops: float = 4.0) -> np.ndarray:
    """The photo as a hand-held camera might take it under street lights.

    In linear light: `stops` stops less exposure, a warm colour cast, lamps that saturate the sensor and have a halo,
    motion blur, photon noise (Poisson) and read noise (Gaussian) of a small sensor; then a gain that brings half of
    the stops back, with the noise. It does not move the shadows, and the sky stays the brightest part. Noise as in
    Foi et al., 'Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data' (2008).

    Args:
        image: uint8 [H, W, 3] RGB or [H, W] grey (which has no cast).
        seed: the same image, seed and stops give the same night.
        stops: how many times the light is halved.

    Returns:
        uint8, of the image's shape.
    """
    rng = np.random.default_rng(seed)
    light = _TO_LINEAR[image.reshape(*image.shape[:2], -1)]
    light *= 0.5**stops * _cast(rng, light.shape[2])
    _add_lamps(light, rng, gain := 2 ** (_REGAINED * stops))
    light = _motion_blur(light, rng)
    electrons = rng.poisson(_FULL_WELL * light) + rng.normal(0, _READ_NOISE, light.shape)
    return _to_srgb(electrons * (gain / _FULL_WELL)).reshape(image.shape)


def _cast(rng: np.random.Generator, channels: int) -> np.ndarray:
    """The lamps' colour, from neutral LED to sodium, of mean 1."""
    if channels == 1:
        return np.ones(1, np.float32)
    warmth = rng.uniform(0.3, 1)
    colour = np.array([1, 1 - 0.3 * warmth, 1 - 0.65 * warmth], np.float32)
    return colour / colour.mean()


def _add_lamps(light: np.ndarray, rng: np.random.Generator, gain: float) -> None:
    """Add discs of several times the light that saturates, their halos falling with the square of the distance."""
    height, width, channels = light.shape
    y, x = np.ogrid[:height, :width]
    for _ in range(rng.integers(*_LAMPS, endpoint=True)):
        centre_x, centre_y = rng.uniform(0, width), rng.uniform(0, 0.7 * height)
        radius = max(1.0, rng.uniform(*_LAMP_RADIUS) * min(height, width))
        brightness = rng.uniform(3, 10) / gain
        distance = np.sqrt((x - centre_x) ** 2 + (y - centre_y) ** 2).astype(np.float32) / radius
        glow = brightness * np.minimum(1, 0.3 / np.maximum(distance, 1e-3) ** 2)
        glow[distance <= 1] = brightness
        light += glow[..., None] * _cast(rng, channels)


def _motion_blur(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur along a straight line of random direction."""
    length = max(2.0, rng.uniform(*_MOTION) * max(light.shape[:2]))
    angle = rng.uniform(0, np.pi)
    size = 2 * int(np.ceil(length / 2)) + 1
    steps = np.linspace(-0.5, 0.5, 8 * size) * length
    kernel = np.zeros((size + 2, size + 2))
    for x, y in np.outer(steps, (np.cos(angle), np.sin(angle))) + size // 2 + 1:
        i, j = int(y), int(x)
        kernel[i : i + 2, j : j + 2] += np.outer((1 - y + i, y - i), (1 - x + j, x - j))
    blurred = cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    return blurred.reshape(light.shape)


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    """uint8 sRGB (IEC 61966-2-1) of linear light in [0, 1]; what lies outside is clipped."""
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


def _to_linear(encoded: np.ndarray) -> np.ndarray:
    """float32 linear light in [0, 1] of sRGB in [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


_TO_LINEAR = _to_linear(np.arange(256) / 255)

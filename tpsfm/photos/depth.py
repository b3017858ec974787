"""Images of more than 8 bits a channel, brought to 8."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Levels = tuple[float, float]
"""The values that become black and white."""

_SCALES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # the greatest values that cameras and programs write
_USED = 0.25  # of a scale; of images that use less of it, what they use is stretched
_TAILS = (0.1, 99.9)  # per cent, beyond which values don't count
_SAMPLES = 1 << 20  # values of an image that are looked at


def levels_of(images: Iterable[np.ndarray]) -> Levels:
    """The levels that suit images of one camera.

    Args:
        images: [H, W] or [H, W, 3], of any type, at least one.

    Returns:
        From 0 to the least full scale (10, 12, 14 or 16 bits, 1 or 255 of floats) that holds all values, where a
        quarter of it is used; else the range of the values, but for one in a thousand on each side.
    """
    lows, highs, leasts, mosts = zip(*(_range(image) for image in images), strict=True)
    low, high, least, most = min(lows), max(highs), min(leasts), max(mosts)
    scale = next((scale for scale in _SCALES if most <= scale), None)
    if scale is not None and least >= 0 and high - low >= _USED * scale:
        return 0.0, scale
    return (low, high) if high > low else (low, low + 1)


def to_8_bits(image: np.ndarray, levels: Levels | None = None) -> np.ndarray:
    """An image as uint8; of floats, those that are not finite become black.

    Args:
        image: [H, W] or [H, W, 3]: bool, uint8, another integer or a float type.
        levels: None takes the image's own.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype == bool:
        return image.astype(np.uint8) * np.uint8(255)
    low, high = levels or levels_of([image])
    scaled = (image.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.rint(np.nan_to_num(scaled, posinf=0, neginf=0)).clip(0, 255).astype(np.uint8)


def _range(image: np.ndarray) -> tuple[float, float, float, float]:
    """The values below and above which few lie, the least and the greatest; of finite ones."""
    values = image.reshape(-1)
    values = values[:: 1 + values.size // _SAMPLES].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0, 0.0, 0.0
    low, high = np.percentile(values, _TAILS)
    return float(low), float(high), float(values.min()), float(values.max())

"""Photos made small enough for an extractor, and their keypoints brought back."""

from __future__ import annotations

import cv2
import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features.base import Features
from tpsfm.geometry import rescale_points
from tpsfm.photos import check_pixels


def check_limits(max_keypoints: int, max_size: int) -> None:
    """Refuse limits with which nothing can be extracted.

    Raises:
        TpsfmError: an option is out of range.
    """
    if max_keypoints < 1:
        raise TpsfmError(f"max_keypoints is {max_keypoints}; give at least 1")
    if max_size < 32:
        raise TpsfmError(f"max_size is {max_size} pixels; give at least 32")


def reduced(image: np.ndarray, mask: np.ndarray | None, max_size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """An image as grey uint8 [h, w] with its longer side at most `max_size` pixels, and its mask likewise.

    Raises:
        TpsfmError: it is no image.
    """
    check_pixels(image)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else np.ascontiguousarray(image)
    small = shrunk(grey, max_size)
    if mask is not None and small.shape != grey.shape:
        mask = cv2.resize(mask.astype(np.uint8), small.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return small, mask


def shrunk(image: np.ndarray, max_size: int) -> np.ndarray:
    """An image uint8 [H, W] or [H, W, 3] with its longer side at most `max_size` pixels."""
    height, width = image.shape[:2]
    scale = max_size / max(width, height)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def enlarged(features: Features, image: np.ndarray, mask: np.ndarray | None) -> Features:
    """Features of a reduced image, in pixels of the whole one; what then lies outside the whole mask is dropped."""
    height, width = image.shape[:2]
    scale = np.array([width, height]) / np.array(features.image_size)
    keypoints = rescale_points(features.keypoints, scale).astype(np.float32)
    whole = Features(keypoints, features.scores, features.descriptors, (width, height))
    if mask is None:
        return whole
    x, y = np.rint(keypoints).astype(int).clip(0, (width - 1, height - 1)).T
    return whole.select(mask[y, x].astype(bool))

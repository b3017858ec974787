"""Features of photos that are stored turned or mirrored."""

from __future__ import annotations

import numpy as np

from tpsfm.features.base import Extractor, Features
from tpsfm.geometry import rescale_points
from tpsfm.photos import decoded_keypoints, upright


def upright_features(
    extractor: Extractor,
    image: np.ndarray,
    mask: np.ndarray | None,
    orientation: int,
    size: tuple[int, int] | None = None,
) -> Features:
    """Features of a photo seen as its EXIF orientation says, in pixels of the photo as stored.

    Args:
        image: uint8 [H, W, 3] or [H, W], as stored or reduced.
        mask: bool [H, W], or None.
        orientation: EXIF orientation, 1 to 8.
        size: (width, height) of the photo; that of `image` if left out.
    """
    decoded = (image.shape[1], image.shape[0])
    size = size or decoded
    found = extractor.extract(upright(image, orientation), None if mask is None else upright(mask, orientation))
    keypoints = decoded_keypoints(found.keypoints, orientation, decoded)
    if size != decoded:
        keypoints = rescale_points(keypoints, np.array(size) / np.array(decoded)).astype(np.float32)
    return Features(keypoints, found.scores, found.descriptors, size)

"""Features of photos that are stored turned or mirrored."""

from __future__ import annotations

import numpy as np

from tpsfm.features.base import Extractor, Features
from tpsfm.photos import decoded_keypoints, upright


def upright_features(extractor: Extractor, image: np.ndarray, mask: np.ndarray | None, orientation: int) -> Features:
    """Features of a photo seen as its EXIF orientation says, in pixels of the photo as decoded."""
    size = (image.shape[1], image.shape[0])
    found = extractor.extract(upright(image, orientation), None if mask is None else upright(mask, orientation))
    return Features(decoded_keypoints(found.keypoints, orientation, size), found.scores, found.descriptors, size)

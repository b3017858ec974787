"""Features of photos that are stored or seen rotated, in pixels of the photo as stored."""

from __future__ import annotations

import cv2
import numpy as np

from tpsfm.features.base import Extractor, Features
from tpsfm.features.scaling import shrunk
from tpsfm.geometry import rescale_points
from tpsfm.photos import decoded_keypoints, turned, upright

FLAT = 4.0  # grey levels of 255 between the dark and the bright parts of an image that shows something
FLAT_SIDE, FLAT_BLUR = 640, 1.5  # pixels of the small copy's longer side, and σ that takes its noise away
MARGIN = 0.01  # of the longer side of a rotated photo, along its edges: no keypoints lie there


def upright_features(
    extractor: Extractor,
    image: np.ndarray,
    mask: np.ndarray | None,
    orientation: int,
    size: tuple[int, int] | None = None,
    turn: float = 0,
) -> Features:
    """Features of a photo seen as its EXIF orientation says, and turned further.

    Quarter turns keep every pixel; at other angles the photo is resampled into a larger image, in which only what is
    photo, without a margin, has keypoints.

    Args:
        extractor: any.
        image: uint8 [H, W, 3] or [H, W], as stored or reduced.
        mask: bool [H, W], False where no keypoint may lie; None allows all.
        orientation: EXIF orientation, 1 to 8.
        size: (width, height) of the photo; that of `image` if left out.
        turn: degrees clockwise, beyond what the orientation says.

    Returns:
        None at all of a photo that is blank or dark.
    """
    decoded = (image.shape[1], image.shape[0])
    size = size or decoded
    if is_flat(image):
        return Features.empty(extractor.dim, size)
    quarters, degrees = divmod(turn, 90)
    orientation = turned(orientation, int(quarters))
    image, mask = upright(image, orientation), None if mask is None else upright(mask, orientation)
    found = _rotated_features(extractor, image, mask, degrees) if degrees else extractor.extract(image, mask)
    keypoints = decoded_keypoints(found.keypoints, orientation, decoded)
    if size != decoded:
        keypoints = rescale_points(keypoints, np.array(size) / np.array(decoded)).astype(np.float32)
    return Features(keypoints, found.scores, found.descriptors, size)


def is_flat(image: np.ndarray) -> bool:
    """Whether an image uint8 [H, W, 3] or [H, W] shows nothing but noise: blank, or taken in the dark."""
    small = shrunk(image, FLAT_SIDE)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if small.ndim == 3 else small
    low, high = np.percentile(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), FLAT_BLUR), (2, 98))
    return bool(high - low < FLAT)


def _rotated_features(extractor: Extractor, image: np.ndarray, mask: np.ndarray | None, degrees: float) -> Features:
    """Features of an image rotated clockwise by some degrees, in pixels of the image as it is."""
    height, width = image.shape[:2]
    matrix, size = rotation((width, height), degrees)
    margin = max(1, round(MARGIN * max(width, height)))
    allowed = np.ones((height, width), np.uint8) if mask is None else mask.astype(np.uint8)
    allowed[:margin] = allowed[-margin:] = allowed[:, :margin] = allowed[:, -margin:] = 0
    # Mirrored edges instead of black ones: no keypoint nearby describes an edge that isn't there.
    canvas = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    found = extractor.extract(canvas, cv2.warpAffine(allowed, matrix, size, flags=cv2.INTER_NEAREST) > 0)
    back = cv2.invertAffineTransform(matrix)
    keypoints = (found.keypoints @ back[:, :2].T + back[:, 2]).astype(np.float32)
    inside = np.all((keypoints >= 0) & (keypoints <= (width - 1, height - 1)), axis=1)
    return Features(keypoints, found.scores, found.descriptors, (width, height)).select(np.flatnonzero(inside))


def rotation(size: tuple[int, int], degrees: float) -> tuple[np.ndarray, tuple[int, int]]:
    """The rotation of an image about its centre into one that holds it whole.

    Args:
        size: (width, height).
        degrees: clockwise.

    Returns:
        float64 [2, 3], from pixels of the image to those of the larger one, and its (width, height).
    """
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[cos, -sin], [sin, cos]])
    larger = np.ceil(np.abs(linear) @ size).astype(int)
    centre, larger_centre = (np.array(size) - 1) / 2, (larger - 1) / 2
    return np.column_stack([linear, larger_centre - linear @ centre]), (int(larger[0]), int(larger[1]))

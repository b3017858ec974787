"""EXIF orientations: turning pixels upright, and keypoints back."""

from __future__ import annotations

import numpy as np

# EXIF orientation -> (transposed, mirrored in x, mirrored in y): mirror the decoded image, then transpose it.
ORIENTATIONS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# Of a photo stored mirrored: its orientation once it is mirrored in x.
UNMIRRORED = {2: 1, 4: 3, 5: 8, 7: 6}
# Each is the one before it seen a quarter turn clockwise.
_QUARTER_TURNS = ((1, 6, 3, 8), (2, 7, 4, 5))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a decoded image [H, W] or [H, W, C] the way its EXIF orientation (1 to 8) says it is seen."""
    transposed, mirror_x, mirror_y = ORIENTATIONS[orientation]
    image = image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
    return np.ascontiguousarray(image.swapaxes(0, 1) if transposed else image)


def as_stored(image: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of `upright`."""
    transposed, mirror_x, mirror_y = ORIENTATIONS[orientation]
    image = image.swapaxes(0, 1) if transposed else image
    return np.ascontiguousarray(image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def turned(orientation: int, quarters: int) -> int:
    """The EXIF orientation that shows an image so many quarter turns clockwise of another orientation."""
    turns = next(turns for turns in _QUARTER_TURNS if orientation in turns)
    return turns[(turns.index(orientation) + quarters) % 4]


def decoded_keypoints(keypoints: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Map keypoints of the upright image back to the image as decoded.

    Args:
        keypoints: [N, 2] xy in pixels of `upright(image, orientation)`.
        orientation: EXIF orientation, 1 to 8.
        size: (width, height) of the decoded image.

    Returns:
        [N, 2] xy in pixels of the decoded image, of the same dtype.
    """
    transposed, *mirrored = ORIENTATIONS[orientation]
    return _mirrored(keypoints[:, ::-1] if transposed else keypoints, mirrored, size)


def upright_keypoints(keypoints: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """The inverse of `decoded_keypoints`, of the same orientation and size."""
    transposed, *mirrored = ORIENTATIONS[orientation]
    keypoints = _mirrored(keypoints, mirrored, size)
    return keypoints[:, ::-1] if transposed else keypoints


def _mirrored(keypoints: np.ndarray, axes: list[bool], size: tuple[int, int]) -> np.ndarray:
    """A copy of keypoints [N, 2], mirrored in x, y or both."""
    keypoints = keypoints.copy()
    for axis in (0, 1):
        if axes[axis]:
            keypoints[:, axis] = size[axis] - 1 - keypoints[:, axis]
    return keypoints

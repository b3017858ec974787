"""Masks: where in a photo keypoints may lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.photos.pixels import decode, open_image


def read_mask(masks: Path, name: str, size: tuple[int, int]) -> np.ndarray | None:
    """The mask of image `name`: the file `masks/<name>.png`, COLMAP's naming. Black allows no keypoint.

    Args:
        masks: folder of the masks.
        name: the image's path relative to the image folder.
        size: (width, height) of the decoded image; the mask is resized to it.

    Returns:
        bool [height, width], False where no keypoint may lie; None where there is no such file.

    Raises:
        TpsfmError: `masks` is not a folder, or the mask can't be read or is not in proportion to the image.
    """
    masks = Path(masks)
    path = masks / f"{name}.png"
    if not path.exists():
        if not masks.is_dir():
            raise TpsfmError(f"mask folder {masks} is not a folder")
        return None
    with open_image(path) as image:
        mask = decode(image) != 0
    if mask.ndim == 3:
        mask = mask.any(axis=2)
    width, height = size
    rows, columns = mask.shape
    if abs(width * rows - height * columns) > 0.01 * width * rows + max(width, height):
        raise TpsfmError(
            f"mask {path} is {columns}x{rows} but its image is stored as {width}x{height} (EXIF orientation "
            "ignored); give it the same proportions"
        )
    y = (2 * np.arange(height) + 1) * rows // (2 * height)  # the mask's pixel below the centre of each of the image's
    x = (2 * np.arange(width) + 1) * columns // (2 * width)
    return mask[y[:, None], x]

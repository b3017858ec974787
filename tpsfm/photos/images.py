"""Photos on disk: which there are, what their headers say, their pixels, their masks."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tpsfm.errors import TpsfmError
from tpsfm.photos import exif

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# EXIF orientation -> (transposed, mirrored in x, mirrored in y): mirror the decoded image, then transpose it.
_ORIENTATIONS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# Each is the one before it seen a quarter turn clockwise.
_QUARTER_TURNS = ((1, 6, 3, 8), (2, 7, 4, 5))
# Pillow warns of damaged EXIF, and from 90 Mpx on of a decompression bomb (it refuses twice that).
warnings.filterwarnings("ignore", module=r"PIL\.")

log = logging.getLogger("tpsfm")


@dataclass(frozen=True)
class ImageInfo:
    """What an image file's header says.

    Attributes:
        width, height: pixels as stored, EXIF orientation ignored.
        orientation: EXIF orientation, 1 to 8; 1 where the file has none.
        make, model: of the camera; "" where unknown.
        focal_px: focal length in pixels by EXIF, or None.
        gps: (latitude, longitude) in degrees, altitude in metres (nan where unknown), WGS84; or None.
    """

    width: int
    height: int
    orientation: int
    make: str
    model: str
    focal_px: float | None
    gps: tuple[float, float, float] | None


def list_images(folder: Path) -> list[str]:
    """The images below `folder`: sorted paths relative to it, with '/' whatever the platform.

    Hidden files and folders are passed over; a file that can't be decoded is listed all the same.

    Raises:
        TpsfmError: `folder` is missing, is not a folder, can't be read or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise TpsfmError(f"image folder {folder} {problem}")
    names = []
    for parent, folders, files in os.walk(folder, onerror=_unreadable_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if file.startswith(".") or not file.lower().endswith(IMAGE_SUFFIXES):
                continue
            name = (Path(parent) / file).relative_to(folder).as_posix()
            if is_portable(name):
                names.append(name)
            else:
                log.warning("skipped %r: rename it, its name is not UTF-8 or holds a tab or a line break", name)
    if not names:
        raise TpsfmError(f"no images in {folder}: it holds no file that ends in {' '.join(IMAGE_SUFFIXES)}")
    return sorted(names)


def probe(path: Path) -> ImageInfo:
    """Read an image's header; its pixels are not decoded.

    Raises:
        TpsfmError: the file can't be read or is not an image.
    """
    with _opened(path) as image:
        tags = exif.read_tags(image)
        orientation = exif.orientation(tags)
        width, height = image.size
        if image.format == "TIFF":  # newer Pillows tell its upright size
            width, height = image.tag_v2[256], image.tag_v2[257]
        focal = exif.focal_px(tags, width, height)
        return ImageInfo(width, height, orientation, *exif.camera(tags), focal, exif.gps(tags))


def read_image(path: Path) -> np.ndarray:
    """Decode an image of any kind (grey, palette, alpha, CMYK, 16 bits a channel) to 8 bits; EXIF orientation
    is ignored and alpha dropped.

    Returns:
        uint8 [H, W, 3] RGB or [H, W] grey.

    Raises:
        TpsfmError: the file can't be read, is truncated or is not an image.
    """
    with _opened(path) as image:
        pixels = _decode(image)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels, posinf=0, neginf=0)
        pixels = np.rint(pixels * (255 if pixels.max() <= 1 else 1))
    else:
        pixels = pixels >> 8
    return pixels.clip(0, 255).astype(np.uint8)


def check_pixels(image: np.ndarray) -> None:
    """Refuse what is not the pixels of an image.

    Raises:
        TpsfmError: `image` is not uint8 [H, W, 3] or [H, W], or is empty.
    """
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not shaped or not image.size:
        raise TpsfmError(f"an image must be uint8 [H, W, 3] RGB or [H, W], not {image.dtype} {list(image.shape)}")


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a decoded image [H, W] or [H, W, C] the way its EXIF orientation (1 to 8) says it is seen."""
    transposed, mirror_x, mirror_y = _ORIENTATIONS[orientation]
    image = image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
    return np.ascontiguousarray(image.swapaxes(0, 1) if transposed else image)


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
    transposed, *mirrored = _ORIENTATIONS[orientation]
    keypoints = keypoints[:, ::-1].copy() if transposed else keypoints.copy()
    for axis in (0, 1):
        if mirrored[axis]:
            keypoints[:, axis] = size[axis] - 1 - keypoints[:, axis]
    return keypoints


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
    with _opened(path) as image:
        mask = _decode(image) != 0
    if mask.ndim == 3:
        mask = mask.any(axis=2)
    width, height = size
    rows, columns = mask.shape
    if abs(width * rows - height * columns) > 0.01 * width * rows + max(width, height):
        raise TpsfmError(
            f"mask {path} is {columns}x{rows} but its image is stored as {width}x{height} (EXIF orientation "
            "ignored); give it the same proportions"
        )
    y = (np.arange(height) + 0.5) * rows // height
    x = (np.arange(width) + 0.5) * columns // width
    return mask[y.astype(int)[:, None], x.astype(int)]


def file_digest(path: Path) -> str:
    """Hex digest of a file's content.

    Raises:
        TpsfmError: the file can't be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise TpsfmError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image file, opened; whatever Pillow raises inside, and that is a lot, is the file's fault."""
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, Image.UnidentifiedImageError):
            problem = "it is empty" if os.path.getsize(path) == 0 else "it is damaged or not an image"
        raise TpsfmError(f"cannot read image {path}: {problem or type(error).__name__}") from error


def _decode(image: Image.Image) -> np.ndarray:
    """Pixels as stored: [H, W, 3] uint8, or [H, W] of the file's own dtype."""
    orientation = exif.orientation(exif.read_tags(image)) if image.format == "TIFF" else 1
    image.load()
    if image.mode in ("LA", "La"):
        image = image.convert("L")
    elif not (image.mode in ("1", "L", "F", "RGB") or image.mode.startswith("I")):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if orientation == 1:
        return pixels
    # Pillow has turned a TIFF upright by itself: undo it.
    transposed, mirror_x, mirror_y = _ORIENTATIONS[orientation]
    pixels = pixels.swapaxes(0, 1) if transposed else pixels
    return np.ascontiguousarray(pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def is_portable(name: str) -> bool:
    """Whether `name` can stand in a pairs file, an HDF5 group and COLMAP's database."""
    return not any(character in "\0\t\n\r" or "\ud800" <= character <= "\udfff" for character in name)


def _unreadable_folder(error: OSError) -> None:
    raise TpsfmError(f"cannot read folder {error.filename}: {error.strerror}")

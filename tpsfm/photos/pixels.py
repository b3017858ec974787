"""Image files: opened and decoded by Pillow, whatever is wrong with them told in one line."""

from __future__ import annotations

import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import cv2
import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from tpsfm.errors import TpsfmError
from tpsfm.photos.depth import Levels, to_8_bits
from tpsfm.photos.orientation import ORIENTATIONS, as_stored
from tpsfm.photos.raw import is_raw, read_raw

# What Pillow raises for damaged files: not what an interrupt or a lack of memory raises.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
LARGEST = 1_000_000_000  # pixels of an image that is read at all: 3 GB of memory
LARGEST_WHOLE = 178_956_970  # pixels of an image that is not reduced
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")  # brands that Pillow can't read by itself
_FILTER: Any = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # action, message, category, module, line
_lock = threading.Lock()
_readers = 0
_pillows_limit: int | None = None


def read_image(path: Path, levels: Levels | None = None, least: int | None = None) -> np.ndarray:
    """Decode an image of any kind (grey, palette, alpha, CMYK, 16 bits a channel, floats) to 8 bits; EXIF orientation
    is ignored, alpha dropped, and an image of more than `LARGEST_WHOLE` pixels is reduced to `decoded_size`.

    Args:
        levels: of an image of more than 8 bits, what becomes black and white; None takes what suits it.
        least: as for `Photo.decode`.

    Returns:
        uint8 [H, W, 3] RGB or [H, W] grey.

    Raises:
        TpsfmError: the file can't be read, is truncated or is not an image.
    """
    return to_8_bits(read_values(path, least), levels)


def read_values(path: Path, least: int | None = None) -> np.ndarray:
    """As `read_image`, with the values as stored: [H, W, 3] or [H, W] of any type."""
    if is_raw(path):
        return read_raw(path)
    with open_image(path) as image:
        whole = stored_size(image)
        size = decoded_size(whole)
        if size != whole:  # a JPEG is reduced while it is decoded
            reduction = _reduction(whole)
            image.draft(image.mode, (whole[0] // reduction, whole[1] // reduction))
        elif least is not None:
            wanted = -(-whole[0] * least // max(whole)), -(-whole[1] * least // max(whole))
            size = image.size if image.draft(image.mode, wanted) is not None else size
        pixels = _decode_16_bit_colours(path) if has_16_bit_colours(image) else None
        if pixels is None:
            pixels = decode(image)
    if pixels.shape[1::-1] == size:
        return pixels
    values = pixels.astype(np.uint8) * np.uint8(255) if pixels.dtype == bool else pixels
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image, EXIF orientation ignored."""
    if isinstance(image, TiffImageFile):  # newer Pillows tell its upright size
        return image.tag_v2[256], image.tag_v2[257]
    return image.size


def decoded_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the pixels that `read_image` gives of an image of that size."""
    reduction = _reduction(size)
    return -(-size[0] // reduction), -(-size[1] // reduction)


def _reduction(size: tuple[int, int]) -> int:
    """1, 2, 4 ...: the least by which an image is reduced to at most `LARGEST_WHOLE` pixels."""
    reduction = 1
    while size[0] * size[1] > LARGEST_WHOLE * reduction**2:
        reduction *= 2
    return reduction


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image has more than 8 bits a channel."""
    return image.mode.startswith(("I", "F")) or has_16_bit_colours(image)


def has_16_bit_colours(image: Image.Image) -> bool:
    """Whether an opened image has three channels of 16 bits, which Pillow would cut to their upper 8."""
    return image.mode.startswith("RGB") and ";16" in str(getattr(image, "tile", ""))


def _decode_16_bit_colours(path: Path) -> np.ndarray | None:
    """uint16 [H, W, 3] as stored; None where OpenCV can't read it either."""
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint16:
        return None
    return np.ascontiguousarray(pixels[:, :, 2::-1])


def check_pixels(image: np.ndarray) -> None:
    """Refuse what is not the pixels of an image.

    Raises:
        TpsfmError: `image` is not uint8 [H, W, 3] or [H, W], or is empty.
    """
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not shaped or not image.size:
        raise TpsfmError(f"an image must be uint8 [H, W, 3] RGB or [H, W], not {image.dtype} {list(image.shape)}")


@contextmanager
def open_image(path: Path, file: BinaryIO | None = None) -> Iterator[Image.Image]:
    """The image file `path`, or `file` where it is open already, as Pillow's image.

    Raises:
        TpsfmError: it can't be read, or Pillow finds it damaged, here or inside the block.
    """
    try:
        with _reading(), open(path, "rb") if file is None else nullcontext(file) as stream:
            _register_plugins(path, stream.read(12))
            stream.seek(0)
            with Image.open(stream) as image:
                yield image
    except DAMAGED as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, Image.UnidentifiedImageError):
            problem = "it is empty" if os.path.getsize(path) == 0 else "it is damaged or not an image"
        raise TpsfmError(f"cannot read image {path}: {problem or type(error).__name__}") from error


@contextmanager
def _reading() -> Iterator[None]:
    """Pillow with our own limit of pixels, and without its warnings (of damaged EXIF, of large images).

    All threads share both, so the first to come changes them and the last to go puts them back.
    """
    global _readers, _pillows_limit
    with _lock:
        _readers += 1
        if _readers == 1:
            cast(list, warnings.filters).insert(0, _FILTER)
            _pillows_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, LARGEST // 2  # it refuses twice that
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if not _readers:
                Image.MAX_IMAGE_PIXELS = _pillows_limit
                with suppress(ValueError):
                    cast(list, warnings.filters).remove(_FILTER)


def _register_plugins(path: Path, head: bytes) -> None:
    """Have Pillow read HEIC, where a file is one by its first 12 bytes.

    Raises:
        TpsfmError: pillow-heif, which reads it, is not installed.
    """
    if head[4:8] == b"ftyp" and head[8:] in _HEIF:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            need = "HEIC photos need the package pillow-heif; pip install 'tpsfm[heic]'"
            raise TpsfmError(f"cannot read image {path}: {need}") from None
        register_heif_opener()


def decode(image: Image.Image) -> np.ndarray:
    """Pixels as stored: [H, W, 3] uint8, or [H, W] of the file's own dtype."""
    orientation = 1
    if isinstance(image, TiffImageFile):
        orientation = image.tag_v2.get(ExifTags.Base.Orientation, 1)
    image.load()
    if image.mode in ("LA", "La"):
        image = image.convert("L")
    elif not (image.mode in ("1", "L", "F", "RGB") or image.mode.startswith("I")):
        image = image.convert("RGB")
    # Newer Pillows turn a TIFF upright by themselves.
    return as_stored(np.asarray(image), orientation) if orientation in ORIENTATIONS else np.asarray(image)

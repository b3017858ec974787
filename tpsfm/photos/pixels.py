"""Image files: opened and decoded by Pillow, whatever is wrong with them told in one line."""

from __future__ import annotations

import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from tpsfm.errors import TpsfmError
from tpsfm.photos.orientation import ORIENTATIONS, as_stored

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
_FILTER: Any = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # action, message, category, module, line
_lock = threading.Lock()
_readers = 0


def read_image(path: Path) -> np.ndarray:
    """Decode an image of any kind (grey, palette, alpha, CMYK, 16 bits a channel) to 8 bits; EXIF orientation
    is ignored and alpha dropped.

    Returns:
        uint8 [H, W, 3] RGB or [H, W] grey.

    Raises:
        TpsfmError: the file can't be read, is truncated or is not an image.
    """
    with open_image(path) as image:
        pixels = decode(image)
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


@contextmanager
def open_image(path: Path, file: BinaryIO | None = None) -> Iterator[Image.Image]:
    """The image file `path`, or `file` where it is open already, as Pillow's image.

    Raises:
        TpsfmError: it can't be read, or Pillow finds it damaged, here or inside the block.
    """
    try:
        with _quiet(), Image.open(file or path) as image:
            yield image
    except DAMAGED as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, Image.UnidentifiedImageError):
            problem = "it is empty" if os.path.getsize(path) == 0 else "it is damaged or not an image"
        raise TpsfmError(f"cannot read image {path}: {problem or type(error).__name__}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide Pillow's warnings: of damaged EXIF, and from 90 Mpx on of a decompression bomb (it refuses twice that).

    All threads share Python's filters, so the first to come adds ours and the last to go takes it out.
    """
    global _readers
    with _lock:
        _readers += 1
        if _readers == 1:
            cast(list, warnings.filters).insert(0, _FILTER)
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if not _readers:
                with suppress(ValueError):
                    cast(list, warnings.filters).remove(_FILTER)


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

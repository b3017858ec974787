"""Photos as the sensor gave them (DNG, CR2, NEF, ARW ...), developed by LibRaw: the optional package rawpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.photos.listing import RAW_SUFFIXES

_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # EXIF's, by LibRaw's number of a turn


def is_raw(path: Path) -> bool:
    """Whether a file is a raw photo, by its suffix."""
    return Path(path).suffix.lower() in RAW_SUFFIXES


def raw_header(path: Path) -> tuple[int, int, int]:
    """Width, height and EXIF orientation of what `read_raw` gives.

    Raises:
        TpsfmError: as `read_raw`.
    """
    with _opened(path) as raw:
        return raw.sizes.width, raw.sizes.height, _ORIENTATIONS.get(raw.sizes.flip, 1)


def read_raw(path: Path) -> np.ndarray:
    """Develop a photo with the camera's white balance: uint8 [H, W, 3] RGB, not turned.

    Raises:
        TpsfmError: it can't be read, or rawpy is not installed.
    """
    with _opened(path) as raw:
        return raw.postprocess(use_camera_wb=True, user_flip=0, output_bps=8)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import rawpy
    except ImportError:
        raise TpsfmError(
            f"cannot read image {path}: raw photos need the package rawpy; pip install 'tpsfm[raw]'"
        ) from None
    try:
        with rawpy.imread(str(path)) as raw:
            yield raw
    except (rawpy.LibRawError, OSError) as error:
        text = error.args[0] if error.args else type(error).__name__
        problem = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        raise TpsfmError(f"cannot read image {path}: {problem}") from error

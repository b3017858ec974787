"""Small copies of photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def thumbnail(path: Path, size: int = 192) -> np.ndarray | None:
    """uint8 [H, W, 3] RGB, the longer side at most `size`, EXIF orientation ignored; None if unreadable."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (size, size))  # JPEG: decode at a fraction of the resolution
            if image.mode.startswith("I;16") or image.mode in ("I", "F"):
                return _from_deep(np.asarray(image, np.float32), size)
            image = image.convert("RGB")
            image.thumbnail((size, size))
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _from_deep(values: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(np.clip(values / 256 if values.max() > 255 else values, 0, 255).astype(np.uint8))
    image.thumbnail((size, size))
    return np.asarray(image.convert("RGB"))

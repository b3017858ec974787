"""Small pictures written to files, with whatever EXIF."""

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 32


def colours() -> np.ndarray:
    """uint8 [32, 48, 3]: smooth, so that JPEG keeps it, and unlike any mirrored or turned copy of itself."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([5 * x, 7 * y, 120 + x - y], axis=2).astype(np.uint8)


def save(path: Path, image: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options) if isinstance(image, np.ndarray) else image.save(path, **options)
    return path


def exif(tags: dict | None = None, camera: dict | None = None, place: dict | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif.update(tags or {})
    exif.update({tag: ifd for tag, ifd in ((0x8769, camera), (0x8825, place)) if ifd})
    return exif

"""Small pictures written to files, with whatever EXIF."""

import struct
import zlib
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


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit PNG of uint16 [H, W, 3], which Pillow can't write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

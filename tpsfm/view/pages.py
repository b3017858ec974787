"""HTML pages from the templates in `templates/`, with their pictures inside, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: object) -> Markup:
    """A template filled with values; all text in them is escaped, except `Markup`."""
    return Markup(_environment().get_template(template).render(values))


def jpeg_uri(image: np.ndarray | None, quality: int) -> str:
    """A picture, uint8 [H, W, 3] RGB, as a `data:` address of a JPEG of `quality` 1 to 95; empty for None."""
    from PIL import Image

    if image is None:
        return ""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def thumbnail(path: Path, size: int = 192) -> np.ndarray | None:
    """A photo, uint8 [H, W, 3] RGB, its longer side at most `size`, EXIF orientation ignored; None if unreadable."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (size, size))  # JPEG: decode at a fraction of the resolution
            if image.mode.startswith("I;16") or image.mode in ("I", "F"):
                deep = np.asarray(image, np.float32)
                small = Image.fromarray((deep / 256 if deep.max() > 255 else deep).clip(0, 255).astype(np.uint8))
                small.thumbnail((size, size))
                return np.asarray(small.convert("RGB"))
            small = image.convert("RGB")
            small.thumbnail((size, size))
            return np.asarray(small)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tpsfm.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

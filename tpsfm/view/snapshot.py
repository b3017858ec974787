"""A picture of a map, on any machine, with or without a display."""

from __future__ import annotations

import logging
from pathlib import Path

from tpsfm.errors import TpsfmError
from tpsfm.geometry.model import Model
from tpsfm.view import drawing
from tpsfm.view.scene import scene_of
from tpsfm.view.splatting import splat

log = logging.getLogger("tpsfm")


def snapshot(model: Model, png: str | Path, size: tuple[int, int] = (1280, 800), queries: Model | None = None) -> str:
    """Draw a map's points and frustums off-screen into the file `png`.

    Open3D draws where it works; elsewhere our own renderer does.

    Args:
        size: (width, height) in pixels.
        queries: localized photos, a model in the same frame; they get a colour of their own.

    Returns:
        What drew it: "open3d" or "tpsfm".

    Raises:
        TpsfmError: `png` doesn't end in .png or can't be written, or `size` is out of range.
    """
    png = Path(png)
    if png.suffix.lower() != ".png":
        raise TpsfmError(f"a snapshot is a PNG file; '{png}' doesn't end in .png")
    if min(size) < 64 or max(size) > 8192:
        raise TpsfmError(f"a snapshot of {size[0]}x{size[1]} pixels; each side must be 64 to 8192")
    try:
        with open(png, "ab"):
            pass
    except OSError as error:
        raise TpsfmError(f"can't write '{png}': {error.strerror}") from None
    scene = scene_of(model, queries, max_points=300_000)
    try:
        png.unlink()
        drawing.run(scene, png, size, timeout=120)
        return "open3d"
    except TpsfmError as error:
        log.info("the snapshot is drawn without Open3D: %s", error)
    from PIL import Image

    try:
        Image.fromarray(splat(scene, size)).save(png)
    except OSError as error:
        raise TpsfmError(f"can't write '{png}': {error.strerror or error}") from None
    return "tpsfm"

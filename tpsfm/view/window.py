"""The map in a window, with Open3D."""

from __future__ import annotations

import os
import sys

from tpsfm.errors import TpsfmError
from tpsfm.geometry.model import Model
from tpsfm.view import drawing
from tpsfm.view.scene import scene_of


def has_display() -> bool:
    """Whether a window can be shown: always assumed on macOS and Windows."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(model: Model, queries: Model | None = None) -> None:
    """Show a map's points and frustums in an Open3D window; returns when it is closed.

    Args:
        queries: localized photos, a model in the same frame; they get a colour of their own.

    Raises:
        TpsfmError: there is no display, Open3D's system libraries are missing, or it failed.
    """
    if not has_display():
        raise TpsfmError("there is no display; use 'tpsfm view --web' or 'tpsfm view --snapshot map.png'")
    drawing.run(scene_of(model, queries))

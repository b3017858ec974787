"""Local features: the extractor contract, and the registry that the `tpsfm.extractors` entry points fill."""

from __future__ import annotations

from typing import Any

from tpsfm.features.base import Extractor, Features
from tpsfm.plugins import plugin, plugin_names

__all__ = ["Extractor", "Features", "extractor_class", "extractor_names", "load_extractor"]


def extractor_names() -> list[str]:
    """The registered extractors' names, sorted."""
    return plugin_names("tpsfm.extractors")


def extractor_class(name: str) -> type[Extractor]:
    """The class of extractors registered as `name`.

    Raises:
        TpsfmError: no extractor has that name.
    """
    return plugin("tpsfm.extractors", "features", name)


def load_extractor(name: str = "tpr", **options: Any) -> Extractor:
    """Make the extractor registered as `name`.

    Args:
        name: one of `extractor_names()`; a package adds its own with an entry point in the group
            `tpsfm.extractors` that names a subclass of `Extractor`.
        **options: passed to it; all know `max_keypoints`, `max_size` (longer side in pixels) and `device`.

    Raises:
        TpsfmError: no extractor has that name.
    """
    return extractor_class(name)(**options)

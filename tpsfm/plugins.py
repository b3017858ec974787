"""Implementations by name: tpsfm's own and those of other packages, registered as entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from tpsfm.errors import TpsfmError


def plugin_names(group: str) -> list[str]:
    """The names registered in an entry point group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def plugin(group: str, kind: str, name: str) -> Any:
    """What an entry point group has under a name.

    Args:
        group: of entry points.
        kind: what they are, in an error's words.
        name: one of `plugin_names(group)`.

    Raises:
        TpsfmError: nothing has that name.
    """
    for point in entry_points(group=group):
        if point.name == name:
            return point.load()
    raise TpsfmError(f"no {kind} named '{name}'; there are: {', '.join(plugin_names(group))}")

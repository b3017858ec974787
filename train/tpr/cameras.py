"""Which photos come from one fixed camera: the same places at different hours."""

from __future__ import annotations

import csv
import re
from pathlib import Path


def original_names(folder: Path) -> dict[str, str]:
    """File name -> original path, from `<folder>.index.tsv` beside a folder, if there is one."""
    index = folder.with_name(f"{folder.name}.index.tsv")
    if not index.is_file():
        return {}
    with index.open(newline="", encoding="utf-8") as file:
        return {row[0]: row[1] for row in csv.reader(file, delimiter="\t") if len(row) > 1}


def fixed_cameras(paths: list[Path], pattern: str) -> dict[Path, str]:
    """The camera of each photo that a regular expression finds one for.

    The pattern is searched in the photo's original path, where its folder has an index, else in its path;
    what its first group matches (all of it, without a group) names the camera, within the photo's folder.

    Args:
        paths: the photos.
        pattern: e.g. "camera_(\\d+)"; "" finds none.

    Raises:
        re.error: no regular expression.
    """
    if not pattern:
        return {}
    expression = re.compile(pattern)
    indices: dict[Path, dict[str, str]] = {}
    cameras = {}
    for path in paths:
        names = indices.setdefault(path.parent, original_names(path.parent))
        found = expression.search(names.get(path.name, path.as_posix()))
        if found:
            cameras[path] = f"{path.parent.as_posix()}:{found.group(1) if expression.groups else found.group()}"
    return cameras


def groups(paths: list[Path], sizes: list[tuple[int, ...]], cameras: dict[Path, str]) -> list[list[int]]:
    """Places in `paths` of the photos of one camera and one size, at least two each."""
    found: dict[tuple, list[int]] = {}
    for i, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        if path in cameras:
            found.setdefault((cameras[path], size), []).append(i)
    return [group for group in found.values() if len(group) > 1]

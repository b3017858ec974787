"""Which photos come from one fixed camera: the same places at different hours."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from tpr.randomness import hashed


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
    what the first of its groups that took part matches (all of it, without a group) names the camera, within the
    photo's folder.

    Args:
        paths: the photos.
        pattern: e.g. "camera_(\\d+)|lapse/[^/]+/([^/]+)/"; "" finds none.

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
            name = next((group for group in found.groups() if group), found.group())
            cameras[path] = f"{path.parent.as_posix()}:{name}"
    return cameras


def site(camera: str) -> str:
    """Where a camera stands: its name up to the first underscore, so that neighbouring cameras share a site."""
    return camera.rpartition(":")[2].partition("_")[0]


def held_out_sites(cameras: dict[Path, str], share: float) -> set[str]:
    """The sites whose cameras are not trained on: decided by a hash of the site's name, so more cameras keep the split.

    At least one is held out and at least one stays, unless there is but one or `share` is 0: then none is held out.
    """
    sites = sorted({site(camera) for camera in cameras.values()}, key=hashed)
    if share == 0 or len(sites) < 2:
        return set()
    count = sum(hashed(name) < share for name in sites)
    return set(sites[: min(max(count, 1), len(sites) - 1)])


def groups(paths: list[Path], sizes: list[tuple[int, ...]], cameras: dict[Path, str]) -> list[list[int]]:
    """Places in `paths` of the photos of one camera and one size, at least two each."""
    found: dict[tuple, list[int]] = {}
    for i, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        if path in cameras:
            found.setdefault((cameras[path], size), []).append(i)
    return [group for group in found.values() if len(group) > 1]

"""The photos to localize: a folder, a file, or a list with intrinsics."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tpsfm.colmap import camera_from_colmap, check_parameters
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera
from tpsfm.photos import is_image, list_images, name_below, read_lines

_ROW = re.compile(r"(?P<name>.+?)\s+(?P<model>[A-Z][A-Z_]+)\s+(?P<width>\d+)\s+(?P<height>\d+)\s+(?P<params>.+)")


@dataclass(frozen=True)
class Query:
    """A photo to localize.

    Attributes:
        name: its path below the queries' folder.
        camera: its intrinsics where the list gives them.
    """

    name: str
    camera: Camera | None = None


def list_queries(
    source: str | Path, images: str | Path | None = None, masks: Path | None = None
) -> tuple[Path, list[Query]]:
    """The photos in a folder, one photo, or those in a list.

    A list has a row `name MODEL width height params...` for each photo, the camera as COLMAP writes it (hloc's and
    Aachen's format), or just `name`; empty rows and rows that begin with '#' are ignored.

    Args:
        source: a folder (all photos below it), a photo, or a list.
        images: for a list, the folder that its names are relative to; the list's own if left out.
        masks: a folder of masks, which may lie below.

    Returns:
        The queries' folder, and the queries.

    Raises:
        TpsfmError: there is no query, or a row of the list (given by its number) is malformed, has the name of an
            earlier one, or a name that leads out of the folder.
    """
    source = Path(source)
    if os.path.isdir(source):
        return source, [Query(name) for name in list_images(source, masks)]
    if not os.path.exists(source):
        raise TpsfmError(f"there is no query {source}")
    if is_image(source):
        return source.parent, [Query(_name(source.name, "the query", source.parent))]
    root = source.parent if images is None else Path(images)
    if not os.path.isdir(root):
        raise TpsfmError(f"there is no folder {root} that the names in {source} could be relative to")
    queries: dict[str, Query] = {}
    for where, row in read_lines(source, "photo, a folder or a list of queries"):
        query = _parse(row, root, where)
        if query.name in queries:
            raise TpsfmError(f"{where}: '{query.name}' is there twice")
        queries[query.name] = query
    if not queries:
        raise TpsfmError(f"{source} names no query; write 'name MODEL width height params...' for each photo")
    return root, list(queries.values())


def _parse(row: str, root: Path, where: str) -> Query:
    found = _ROW.fullmatch(row)
    if found:
        params = check_parameters(found["model"], found["params"].split(), where)
        return Query(
            _name(found["name"], where, root),
            camera_from_colmap(found["model"], int(found["width"]), int(found["height"]), params),
        )
    if len(row.split()) == 1 or os.path.isfile(root / row):
        return Query(_name(row, where, root))
    raise TpsfmError(f"{where} is not 'name MODEL width height params...': {row[:200]!r}")


def _name(text: str, where: str, root: Path) -> str:
    return name_below(text, where, root, "with --images")

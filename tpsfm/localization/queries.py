"""The photos to localize: a folder, a file, or a list with intrinsics."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from tpsfm.colmap import camera_from_colmap, check_parameters
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera
from tpsfm.photos import existing_name, is_image, is_portable, list_images

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
    try:
        rows = source.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise TpsfmError(f"cannot read the queries in {source}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise TpsfmError(f"{source} is neither a folder nor a photo nor a list of queries") from None
    queries: dict[str, Query] = {}
    for number, row in enumerate(rows, 1):
        row = row.strip()
        if not row or row.startswith("#"):
            continue
        query = _parse(row, root, f"row {number} of {source}")
        if query.name in queries:
            raise TpsfmError(f"row {number} of {source}: '{query.name}' is there twice")
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
    """A path below a folder without "./", refused where it leads out of it or can't stand in poses.txt."""
    path = PurePath(text)
    with suppress(ValueError):
        path = path.relative_to(os.path.abspath(root)) if path.is_absolute() else path
    if path.is_absolute() or ".." in path.parts:
        raise TpsfmError(f"{where}: '{text}' leads out of the queries' folder; name a folder above it with --images")
    if not is_portable(text):
        raise TpsfmError(f"{where}: rename {text!r}, it is not UTF-8 or holds a tab or a line break")
    return existing_name(root, path.as_posix())

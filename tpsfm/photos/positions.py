"""Positions of photos from a CSV file."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path, PurePosixPath

from tpsfm.errors import TpsfmError

_NAMES = {  # of columns
    "name": ("name", "image", "file", "filename", "image_name", "photo"),
    "latitude": ("lat", "latitude"),
    "longitude": ("lon", "lng", "long", "longitude"),
    "altitude": ("alt", "altitude", "height", "elevation"),
}


def read_positions(path: Path) -> dict[str, tuple[float, float, float]]:
    """Latitude, longitude (WGS84, degrees) and altitude (metres, nan where unknown) by name.

    Args:
        path: a CSV file with columns name, lat, lon and alt, in this order if it has no header; others are ignored.

    Raises:
        TpsfmError: it can't be read, or a row has no such numbers.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TpsfmError(f"can't read the positions {path}: {getattr(error, 'strerror', None) or error}") from None
    rows = [row for row in rows if any(cell.strip() for cell in row) and not row[0].startswith("#")]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    columns = {key: next((i for i, cell in enumerate(header) if cell in names), None) for key, names in _NAMES.items()}
    if columns["name"] is None and columns["latitude"] is None:
        columns = dict(zip(_NAMES, range(4), strict=True))
    elif None in (columns["name"], columns["latitude"], columns["longitude"]):
        raise TpsfmError(f"{path}: its header is {','.join(header)}; it needs name,lat,lon,alt")
    else:
        rows = rows[1:]
    positions = {}
    for row in rows:
        cells = {key: row[at].strip() if at is not None and at < len(row) else "" for key, at in columns.items()}
        try:
            latitude, longitude = float(cells["latitude"]), float(cells["longitude"])
            altitude = float(cells["altitude"] or "nan")
        except ValueError:
            raise TpsfmError(f"{path}: '{','.join(row)}' is not a name, latitude, longitude and altitude") from None
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            swapped = "; are latitude and longitude swapped?" if abs(longitude) <= 90 and abs(latitude) <= 180 else ""
            raise TpsfmError(
                f"{path}: latitude {latitude:g}, longitude {longitude:g} of {cells['name']} is no place{swapped}"
            )
        positions[cells["name"]] = latitude, longitude, altitude if math.isfinite(altitude) else math.nan
    return positions


def names_in(given: list[str], names: list[str]) -> dict[str, str]:
    """By given name the photo that is meant: of that name, or the only one of that file name."""
    bases = Counter(PurePosixPath(name).name.lower() for name in names)
    by_base = {PurePosixPath(name).name.lower(): name for name in names}
    found = {}
    for name in given:
        base = PurePosixPath(name.replace("\\", "/")).name.lower()
        if name in names:
            found[name] = name
        elif bases[base] == 1:
            found[name] = by_base[base]
    return found

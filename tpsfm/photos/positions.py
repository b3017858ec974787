"""Positions of photos from a CSV file."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tpsfm.errors import TpsfmError

_HORIZONTAL = ("std_horizontal", "horizontal_accuracy", "accuracy_horizontal")
_NAMES = {  # of columns
    "name": ("name", "image", "file", "filename", "image_name", "photo"),
    "latitude": ("lat", "latitude"),
    "longitude": ("lon", "lng", "long", "longitude"),
    "altitude": ("alt", "altitude", "height", "elevation"),
    "east": ("std_east", "std_lon", *_HORIZONTAL),
    "north": ("std_north", "std_lat", *_HORIZONTAL),
    "up": ("std_up", "std_alt", "std_vertical", "vertical_accuracy", "accuracy_vertical"),
}


class Position(NamedTuple):
    """Where a photo was taken.

    Attributes:
        place: latitude and longitude (WGS84, degrees), altitude (metres, nan where unknown).
        deviation: its standard deviation east, north and up, metres; nan where unknown.
    """

    place: tuple[float, float, float]
    deviation: tuple[float, float, float] = (math.nan, math.nan, math.nan)


def read_positions(path: Path) -> dict[str, Position]:
    """Positions by name.

    Args:
        path: a CSV file with columns name, lat, lon, alt and, as standard deviations in metres, std_east, std_north
            and std_up (or std_horizontal and std_vertical); without a header the first four in this order.

    Raises:
        TpsfmError: it can't be read, or a row has no such numbers.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TpsfmError(f"can't read the positions {path}: {getattr(error, 'strerror', None) or error}") from None
    rows = [row for row in rows if any(cell.strip() for cell in row) and not row[0].startswith("#")]
    header = [cell.strip().lower().replace(" ", "_") for cell in rows[0]] if rows else []
    columns = {key: next((i for i, cell in enumerate(header) if cell in names), None) for key, names in _NAMES.items()}
    if columns["name"] is None and columns["latitude"] is None:
        columns |= {key: at for at, key in enumerate(("name", "latitude", "longitude", "altitude"))}
    elif None in (columns["name"], columns["latitude"], columns["longitude"]):
        raise TpsfmError(f"{path}: its header is {','.join(header)}; it needs name,lat,lon,alt")
    else:
        rows = rows[1:]
    positions = {}
    for row in rows:
        cells = {key: row[at].strip() if at is not None and at < len(row) else "" for key, at in columns.items()}
        try:
            latitude, longitude = float(cells["latitude"]), float(cells["longitude"])
            altitude, *deviation = (float(cells[key] or "nan") for key in ("altitude", "east", "north", "up"))
        except ValueError:
            raise TpsfmError(
                f"{path}: '{','.join(row)}' is not a name, latitude, longitude, altitude and their deviations"
            ) from None
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            swapped = "; are latitude and longitude swapped?" if abs(longitude) <= 90 and abs(latitude) <= 180 else ""
            raise TpsfmError(
                f"{path}: latitude {latitude:g}, longitude {longitude:g} of {cells['name']} is no place{swapped}"
            )
        altitude, *deviation = (v if math.isfinite(v) else math.nan for v in (altitude, *deviation))
        if any(value <= 0 for value in deviation):
            raise TpsfmError(f"{path}: the deviations of {cells['name']} must be above 0, in metres")
        positions[cells["name"]] = Position((latitude, longitude, altitude), (deviation[0], deviation[1], deviation[2]))
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

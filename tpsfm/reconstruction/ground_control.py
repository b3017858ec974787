"""Ground control points: read from OpenDroneMap's gcp_list.txt, and found in a map by their sightings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera, Model, Pose
from tpsfm.photos.positions import names_in

_AGREES = 0.005  # of the longer side: how far off a sighting may be
_PAIRS = 200  # of sightings from which a point is guessed
_UTM = re.compile(r"WGS84\s+UTM\s+(\d+)\s*([NS])", re.IGNORECASE)


@dataclass(frozen=True)
class GroundPoint:
    """A ground control point.

    Attributes:
        name: as in the file, or its coordinates.
        place: (latitude, longitude) in WGS84 degrees, altitude in metres.
        sightings: (photo, x, y) each, in pixels of the photo as stored; OpenSfM's origin is ours.
    """

    name: str
    place: tuple[float, float, float]
    sightings: tuple[tuple[str, float, float], ...]


def read_ground_points(path: Path, names: Sequence[str]) -> list[GroundPoint]:
    """The points of a file of OpenDroneMap's format.

    Its first line is the coordinate system (`WGS84 UTM 11N`, a PROJ text or an EPSG code; all but UTM and longitude,
    latitude on WGS84 need pyproj), each other one `x y z px py photo [name]`.

    Args:
        names: of the photos; sightings in others are left out.

    Raises:
        TpsfmError: it can't be read, a line is not of that form, its system is unknown, or no photo is known.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TpsfmError(
            f"can't read the ground control points {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    lines = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not lines:
        raise TpsfmError(f"{path} is empty; it should be OpenDroneMap's gcp_list.txt")
    to_places = _system(lines[0], path)
    rows: list[tuple[tuple[float, ...], str, str]] = []
    for line in lines[1:]:
        cells = line.split()
        try:
            rows.append(
                (tuple(float(cell) for cell in cells[:5]), cells[5], " ".join(cells[6:7]) or " ".join(cells[:3]))
            )
        except (ValueError, IndexError):
            raise TpsfmError(f"{path}: '{line}' is not 'x y z px py photo [name]'") from None
    known = names_in([photo for _, photo, _ in rows], list(names))
    if not known:
        raise TpsfmError(f"{path} names none of the photos, but {rows[0][1] if rows else 'none at all'} first")
    sightings: dict[str, list] = {}
    coordinates: dict[str, tuple[float, float, float]] = {}
    for (x, y, z, px, py), photo, name in rows:
        coordinates.setdefault(name, (x, y, z))
        if photo in known:
            sightings.setdefault(name, []).append((known[photo], px, py))
    places = to_places(np.array([coordinates[name] for name in sightings]))
    return [
        GroundPoint(name, (float(place[0]), float(place[1]), float(place[2])), tuple(sightings[name]))
        for name, place in zip(sightings, places, strict=True)
    ]


@dataclass(frozen=True)
class Found:
    """Where a point is in a map, float64 [3], by the sightings that agree."""

    place: np.ndarray
    sightings: tuple[tuple[str, float, float], ...]


def find_in_map(points: Sequence[GroundPoint], model: Model, source: Path) -> dict[str, Found]:
    """The points that two registered photos or more agree on, by name.

    Raises:
        TpsfmError: a sighting lies outside its photo.
    """
    found = {}
    for point in points:
        sightings = [sighting for sighting in point.sightings if sighting[0] in model.images]
        seen = []
        for photo, x, y in sightings:
            pose = model.images[photo]
            camera = model.cameras[pose.camera_id]
            if not (0 <= x <= camera.width and 0 <= y <= camera.height):
                size = f"{camera.width}x{camera.height}"
                raise TpsfmError(f"{source}: {point.name} at {x:g}, {y:g} is outside {photo}, which is {size}")
            seen.append((camera, pose, np.array([x, y])))
        place, agreeing = _triangulate(seen)
        if place is not None:
            found[point.name] = Found(place, tuple(sightings[row] for row in agreeing))
    return found


def _triangulate(sightings: list[tuple[Camera, Pose, np.ndarray]]) -> tuple[np.ndarray | None, list[int]]:
    """The point [3] that most sightings (camera, pose, pixel [2]) agree with, and which; None where no two do."""
    from tpsfm.colmap import project, unproject

    rays = [pose.rotation.T @ [*unproject(camera, pixel[None])[0], 1] for camera, pose, pixel in sightings]

    def errors(at: np.ndarray, rows: Sequence[int] = range(len(sightings))) -> np.ndarray:
        """float64 [rows, 2], pixels; 1e6 behind a camera."""
        some = [sightings[row] for row in rows]
        return np.nan_to_num([project(camera, pose, at[None])[0] - pixel for camera, pose, pixel in some], nan=1e6)

    best: np.ndarray = np.empty(0, int)
    guess = None
    pairs = list(combinations(range(len(sightings)), 2))
    for pair in pairs[:: 1 + len(pairs) // _PAIRS]:
        across = [np.eye(3) - np.outer(rays[row], rays[row]) / (rays[row] @ rays[row]) for row in pair]
        centers = [sightings[row][1].center for row in pair]
        at = np.linalg.lstsq(
            np.concatenate(across), np.concatenate([a @ c for a, c in zip(across, centers, strict=True)])
        )[0]
        limits = [_AGREES * max(camera.width, camera.height) for camera, *_ in sightings]
        agreeing = np.flatnonzero(np.linalg.norm(errors(at), axis=1) < limits)
        if len(agreeing) > max(len(best), 1):
            best, guess = agreeing, at
    rows = best.tolist()
    if guess is None:
        return None, rows
    return least_squares(lambda at: errors(at, rows).ravel(), guess, x_scale="jac").x, rows


def _system(header: str, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """From the coordinates of a system to latitude, longitude and altitude."""
    from tpsfm.colmap.geodesy import from_utm

    proj = dict(part.lstrip("+").partition("=")[::2] for part in header.split() if part.startswith("+"))
    plain, epsg = _UTM.fullmatch(header), re.fullmatch(r"EPSG:(\d+)", header, re.IGNORECASE)
    code = int(epsg[1]) if epsg else 0
    zone, north = 0, True
    if plain:
        zone, north = int(plain[1]), plain[2].upper() == "N"
    elif proj.get("proj") == "utm" and proj.get("datum", proj.get("ellps")) == "WGS84":
        zone, north = int(proj["zone"]), "south" not in proj
    elif 32601 <= code <= 32660 or 32701 <= code <= 32760:
        zone, north = code % 100, code < 32700
    if 1 <= zone <= 60:
        return lambda coordinates: from_utm(coordinates, zone, north)
    if code == 4326 or proj.get("proj") in ("longlat", "latlong"):
        return lambda coordinates: coordinates[:, [1, 0, 2]]
    try:
        from pyproj import CRS, Transformer
        from pyproj.exceptions import ProjError
    except ImportError:
        raise TpsfmError(
            f"{path}: its coordinates are of '{header}', which needs pyproj: pip install 'tpsfm[geo]'"
        ) from None
    try:
        transformer = Transformer.from_crs(CRS.from_user_input(header), "EPSG:4326", always_xy=True)
    except ProjError:
        raise TpsfmError(f"{path}: its first line '{header}' is no coordinate system, as 'WGS84 UTM 11N' is") from None

    def places(coordinates: np.ndarray) -> np.ndarray:
        longitude, latitude = transformer.transform(coordinates[:, 0], coordinates[:, 1])
        return np.column_stack([latitude, longitude, coordinates[:, 2]])

    return places

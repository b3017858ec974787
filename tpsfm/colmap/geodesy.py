"""Places on the earth, and maps moved there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.reader import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Sim3

_WGS84 = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)


def to_enu(places: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Metres [N, 3] east, north and up of an origin, of places [N, 3]; both as WGS84 latitude, longitude, altitude."""
    # Not ellipsoid_to_enu, which takes its origin to be the first place.
    return (_ecef(places) - _ecef(origin[None])) @ _axes(origin).T


def from_enu(metres: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """WGS84 latitude, longitude and altitude [N, 3] of metres [N, 3] east, north and up of an origin."""
    return np.asarray(_WGS84.ecef_to_ellipsoid(metres @ _axes(origin) + _ecef(origin[None])))


def ecef_from_enu(origin: np.ndarray) -> np.ndarray:
    """float64 [4, 4]: from metres east, north and up of an origin to WGS84's geocentric coordinates."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = _axes(origin).T, _ecef(origin[None])[0]
    return matrix


def utm_zone(latitude: float, longitude: float) -> tuple[int, str, int]:
    """Zone, "N" or "S" and EPSG code of the UTM coordinates (WGS84) of a place; without the exceptions of Norway."""
    zone = int((longitude + 180) // 6) % 60 + 1
    north = latitude >= 0
    return zone, "N" if north else "S", (32600 if north else 32700) + zone


def to_utm(places: np.ndarray, zone: int) -> np.ndarray:
    """Easting, northing and altitude [N, 3] in metres in a zone of UTM of WGS84 places [N, 3], which lie about it."""
    middle = np.array([places[:1, 0].sum(), 6.0 * zone - 183, 0.0])
    both = np.concatenate([places, np.tile(middle, (2 * len(places) + 1, 1))])  # COLMAP takes the zone of most places
    found, chosen = _WGS84.ellipsoid_to_utm(both)
    assert chosen == zone
    return np.asarray(found)[: len(places)]


def from_utm(coordinates: np.ndarray, zone: int, north: bool) -> np.ndarray:
    """Latitude, longitude (WGS84, degrees) and altitude [N, 3] of easting, northing and altitude [N, 3] in metres."""
    return np.asarray(_WGS84.utm_to_ellipsoid(np.asarray(coordinates, float), zone, north))


def transform_model(folder: Path, output: Path, transform: Sim3) -> None:
    """Write a model moved by a similarity into an empty folder.

    Raises:
        TpsfmError: the model can't be read or written.
    """
    matrix = np.column_stack([transform.scale * transform.rotation, transform.translation])
    try:
        reconstruction = pycolmap.Reconstruction(folder)
        reconstruction.transform(pycolmap.Sim3d(matrix))
        reconstruction.write_binary(output)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't move the map in '{folder}': {str(error).splitlines()[0]}") from None
    read_model(output)  # COLMAP doesn't notice a full disk


def _ecef(places: np.ndarray) -> np.ndarray:
    return np.asarray(_WGS84.ellipsoid_to_ecef(np.asarray(places, float)))


def _axes(origin: np.ndarray) -> np.ndarray:
    """float64 [3, 3], rows east, north and up in geocentric coordinates."""
    (sin_lat, sin_lon), (cos_lat, cos_lon) = np.sin(np.radians(origin[:2])), np.cos(np.radians(origin[:2]))
    return np.array(
        [
            [-sin_lon, cos_lon, 0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )

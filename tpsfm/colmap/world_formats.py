"""A map in metres for geographic programs: points in UTM, cameras by longitude and latitude."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.colmap.geodesy import from_enu, to_utm
from tpsfm.colmap.ply import write_ply
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model
from tpsfm.io.atomic import write_atomic

_STEP = 0.001  # metres in which LAS counts


def _write_ply_utm(model: Model, out: Path, world: Mapping[str, Any]) -> None:
    """PLY of the points less an offset, for its numbers are too short for UTM; comments tell it."""
    points = _utm(model.points, world)
    offset = np.floor(np.median(points, axis=0)) if len(points) else np.zeros(3)
    comments = [f"EPSG:{world['utm']['epsg']}", "offset " + " ".join(f"{value:.0f}" for value in offset)]
    write_ply(replace(model, points=points - offset), out, comments)


def _write_las(model: Model, out: Path, world: Mapping[str, Any], packed: bool) -> None:
    """LAS 1.4 with colours and the coordinate system."""
    try:
        import laspy
        from pyproj import CRS
    except ImportError:
        raise TpsfmError("LAS and LAZ need laspy and pyproj: pip install 'tpsfm[geo]'") from None
    points = _utm(model.points, world)
    header = laspy.LasHeader(version="1.4", point_format=7)
    header.offsets = np.floor(points.min(0)) if len(points) else np.zeros(3)
    header.scales = np.full(3, _STEP)
    header.add_crs(CRS.from_epsg(world["utm"]["epsg"]))
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points.T
    cloud.red, cloud.green, cloud.blue = model.colors.astype(np.uint16).T * 257
    content = io.BytesIO()
    cloud.write(content, do_compress=packed)
    write_atomic(out, content.getvalue())


def _write_geojson(model: Model, out: Path, world: Mapping[str, Any]) -> None:
    """A point for each camera, as RFC 7946 has it; heading and pitch are those of the viewing direction, degrees."""
    centers = np.array([pose.center for pose in model.images.values()]).reshape(-1, 3)
    features = []
    places = from_enu(centers, _origin(world)).tolist()
    for (name, pose), (latitude, longitude, altitude) in zip(model.images.items(), places, strict=True):
        east, north, up = pose.rotation[2]
        level = float(np.hypot(east, north))
        properties = {
            "name": name,
            "heading": round(float(np.degrees(np.arctan2(east, north))) % 360, 2) if level > 0.02 else None,
            "pitch": round(float(np.degrees(np.arctan2(up, level))), 2),
            "points": pose.observations,
        }
        place = {"type": "Point", "coordinates": [round(longitude, 9), round(latitude, 9), round(altitude, 4)]}
        features.append({"type": "Feature", "geometry": place, "properties": properties})
    content = {"type": "FeatureCollection", "features": features}
    write_atomic(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _origin(world: Mapping[str, Any]) -> np.ndarray:
    return np.array([world["origin"][key] for key in ("latitude", "longitude", "altitude")])


def _utm(points: np.ndarray, world: Mapping[str, Any]) -> np.ndarray:
    return to_utm(from_enu(points, _origin(world)), world["utm"]["zone"]) if len(points) else points


WORLD_WRITERS: dict[str, Callable[[Model, Path, Mapping[str, Any]], None]] = {
    "ply-utm": _write_ply_utm,
    "las": partial(_write_las, packed=False),
    "laz": partial(_write_las, packed=True),
    "geojson": _write_geojson,
}

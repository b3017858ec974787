"""georeference.json: where on the earth a map lies, by what, and how exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Sim3
from tpsfm.io.workspace import Workspace

FILE = "georeference.json"


def read_georeference(workspace: Workspace) -> dict[str, Any] | None:
    """The content of a workspace's georeference.json; None where its map is in its own frame.

    Raises:
        TpsfmError: it is damaged.
    """
    return read_world(workspace.sparse)


def read_world(folder: Path) -> dict[str, Any] | None:
    """The content of the georeference.json in a map's folder; None where there is none.

    Raises:
        TpsfmError: it is damaged.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if {"origin", "utm", "rmse", "residuals", "enu_from_map"} <= content.keys():
            return content
        problem = "it lacks something"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        problem = str(error)
    raise TpsfmError(f"{folder / FILE} is damaged ({problem}); delete {folder} and run 'tpsfm map' again")


def transform_of(folder: Path) -> Sim3 | None:
    """The similarity by which the model in a folder was moved from its own frame, the one of `mapped`; None if none.

    Raises:
        TpsfmError: the record of it is damaged.
    """
    content = read_world(folder)
    if content is None:
        return None
    values = content["enu_from_map"]
    return Sim3(values["scale"], np.array(values["rotation"]), np.array(values["translation"]))


def origin_of(content: dict[str, Any]) -> np.ndarray:
    """float64 [3], latitude, longitude and altitude of the origin."""
    return np.array([content["origin"][key] for key in ("latitude", "longitude", "altitude")])


def world_content(origin: np.ndarray, transform: Sim3, method: str) -> dict[str, Any]:
    """georeference.json without residuals, of a map that a similarity moved to metres about an origin."""
    from tpsfm.colmap.geodesy import ecef_from_enu, utm_zone

    zone, hemisphere, code = utm_zone(*origin[:2])
    return {
        "method": method,
        "origin": dict(zip(("latitude", "longitude", "altitude"), origin.tolist(), strict=True)),
        "ecef_from_enu": ecef_from_enu(origin).tolist(),
        "utm": {"zone": zone, "hemisphere": hemisphere, "epsg": code},
        "enu_from_map": {
            "scale": transform.scale,
            "rotation": transform.rotation.tolist(),
            "translation": transform.translation.tolist(),
        },
    }


def residual_rows(names: list[str], residuals: np.ndarray, used: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Given less found, in metres."""
    rows = [dict(zip(("east", "north", "up"), row, strict=True)) for row in residuals.round(4).tolist()]
    return [
        {"name": name, **row, **({} if used is None else {"used": bool(used[i])})}
        for i, (name, row) in enumerate(zip(names, rows, strict=True))
    ]


def rmse_of(residuals: np.ndarray) -> dict[str, float]:
    """Root mean square over east and north together, and over up."""
    squares = (residuals**2).mean(0)
    return {"horizontal": float(np.sqrt(squares[:2].sum())), "vertical": float(np.sqrt(squares[2]))}

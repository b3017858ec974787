"""The map in the world: metres east, north and up, by the photos' GPS positions or by ground control points."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model, Sim3
from tpsfm.geometry.robust import Fit, fit_positions
from tpsfm.io.atomic import replace_folder, write_atomic
from tpsfm.io.workspace import Workspace, digest
from tpsfm.photos import file_digest
from tpsfm.photos.positions import names_in, read_positions
from tpsfm.progress import Progress
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.ground_control import find_in_map, read_ground_points
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.stage import Done, Stage, key_of, option, photo_keys, photo_records

METHOD = 1  # counts up where the same positions give another result
FILE = "georeference.json"
_GPS_ERROR, _GCP_ERROR = (10.0, 10.0, 20.0), (3.0, 3.0, 6.0)  # metres, of an inlier east, north and up

log = logging.getLogger("tpsfm")

Places = dict[str, tuple[float, float, float]]
"""Latitude, longitude (WGS84, degrees) and altitude (metres, nan where unknown) by name."""


@dataclass(frozen=True, kw_only=True)
class Georeference(Stage):
    """Moves the largest model of `sparse` to metres east, north and up of an origin, and writes georeference.json.

    A similarity from the map's own frame is found from three positions or more: of ground control points, else of
    photos. Without such, or where they don't determine it, the map stays in its own frame, and so does a map of known
    poses. `run` raises TpsfmError instead where georeferencing is required or positions are given in a file.
    """

    name: ClassVar[str] = "georeference"
    title: ClassVar[str] = "georeference"

    georeference: str = option(
        "auto",
        "Metres by GPS or ground control; auto: where three photos have GPS; require: or fail.",
        choices=("auto", "off", "require"),
    )
    gps: Path | None = option(None, "CSV of positions in place of EXIF's: name,lat,lon,alt.", path=True)
    gcp: Path | None = option(None, "Ground control points, OpenDroneMap's gcp_list.txt.", path=True)
    gcp_check: Path | None = option(None, "Ground control points to measure the map by, likewise.", path=True)

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        key_of(workspace, Mapping, "tpsfm map")
        if not workspace.manifest["stages"][Mapping.name]["counts"]["models"]:
            (workspace.root / FILE).unlink(missing_ok=True)
            return None
        aligned = key_of(workspace, Alignment, "tpsfm map")
        places = self._gps(workspace)
        files = [path and file_digest(path) for path in (self.gcp, self.gcp_check)]
        options = [METHOD, self.georeference, Mapping.recorded(workspace).poses is not None, self.seed]
        key = digest([aligned, options, sorted(places.items()), files])
        kept = (workspace.sparse / FILE).exists() == (workspace.root / FILE).exists()
        if kept and self._is_done(workspace, key, workspace.sparse / "images.bin"):
            return None
        workspace.start(self.name)
        model, before = read_model(workspace.sparse), transform_of(workspace.sparse)
        try:
            own_frame = Mapping.recorded(workspace).poses is not None and not self._required
            found = None if own_frame or self.georeference == "off" else self._fit(model, places)
        except TpsfmError as problem:
            if self._required:
                raise
            log.warning("not georeferenced: %s", problem)
            found = None
        if found is None:
            _move(workspace, before and _inverse(before), None)
            return Done(key, 1)
        fit, origin, content = found
        to_enu = _after(fit.transform, before) if before else fit.transform
        content["enu_from_map"] = {
            "scale": to_enu.scale,
            "rotation": to_enu.rotation.tolist(),
            "translation": to_enu.translation.tolist(),
        }
        if self.gcp_check is not None:
            content |= _check(self.gcp_check, model, fit.transform, origin)
        _move(workspace, fit.transform, content)
        return Done(key, 1, counts={key: content[key] for key in ("method", "rmse", "check_rmse") if key in content})

    @property
    def _required(self) -> bool:
        return self.georeference == "require" or self.gps is not None or self.gcp is not None

    def _gps(self, workspace: Workspace) -> Places:
        """The positions of the photos."""
        names = list(photo_keys(workspace))
        if self.gps is None:
            records = photo_records(workspace, names)
            return {name: photo.gps for name, photo in records.items() if photo.gps is not None}
        given = read_positions(self.gps)
        places = {photo: given[name] for name, photo in names_in(list(given), names).items()}
        if not places:
            raise TpsfmError(
                f"{self.gps} names none of the {len(names)} photos, but {next(iter(given), 'nothing')} first"
            )
        return places

    def _fit(self, model: Model, places: Places) -> tuple[Fit, np.ndarray, dict[str, Any]] | None:
        """What the positions give: the fit, the origin, and the content of georeference.json; None if they are too few.

        Raises:
            TpsfmError: they give nothing.
        """
        if self.gcp is not None:
            points = read_ground_points(self.gcp, list(model.images))
            known = {point.name: point.place for point in points}
            source = find_in_map(points, model, self.gcp)
            what, limit = "ground control points that two photos of the map show", _GCP_ERROR
        else:
            source = {name: pose.center for name, pose in model.images.items() if name in places}
            known, what, limit = places, "photos of the map with a GPS position", _GPS_ERROR
        level = sum(np.isfinite(known[name][2]) for name in source) < 3
        names = [name for name in source if level or np.isfinite(known[name][2])]
        if len(names) < 3:
            if not self._required and self.gcp is None:
                return None
            raise TpsfmError(f"there are {len(names)} {what}; at least three are needed")
        given = np.array([known[name] for name in names])
        if level:  # the photos are taken to be at one height
            given[:, 2] = np.nanmean(given[:, 2]) if np.isfinite(given[:, 2]).any() else 0.0
        here = np.array([source[name] for name in names])
        fit, origin = _fit_places(here, given, np.array(limit), self.seed)
        if self.gps is not None and self.gcp is None and (np.abs(given[:, 1]) <= 90).all():
            other, _ = _fit_places(here, given[:, [1, 0, 2]], np.array(limit), self.seed)
            if (
                other is not None
                and not other.objection
                and (fit is None or 2 * _spread_error(other) < _spread_error(fit))
            ):
                raise TpsfmError(
                    f"{self.gps} fits the map better with latitude and longitude swapped; swap its columns"
                )
        if fit is None:
            raise TpsfmError(f"no three of the {len(names)} {what} agree with the map")
        if fit.objection:
            raise TpsfmError(fit.objection)
        return fit, origin, _content(fit, origin, names, "gps" if self.gcp is None else "gcp", level)


def read_georeference(workspace: Workspace) -> dict[str, Any] | None:
    """The content of a workspace's georeference.json; None where its map is in its own frame.

    Raises:
        TpsfmError: it is damaged.
    """
    return _read(workspace.sparse)


def transform_of(folder: Path) -> Sim3 | None:
    """The similarity by which the model in a folder was moved from its own frame, the one of `mapped`; None if none.

    Raises:
        TpsfmError: the record of it is damaged.
    """
    content = _read(folder)
    if content is None:
        return None
    values = content["enu_from_map"]
    return Sim3(values["scale"], np.array(values["rotation"]), np.array(values["translation"]))


def _read(folder: Path) -> dict[str, Any] | None:
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


def _fit_places(source: np.ndarray, places: np.ndarray, limit: np.ndarray, seed: int) -> tuple[Fit | None, np.ndarray]:
    """The fit of a map to metres about the median of places, and that origin."""
    from tpsfm.colmap.geodesy import to_enu

    origin = np.median(places, axis=0)
    return fit_positions(source, to_enu(places, origin), limit, seed), origin


def _spread_error(fit: Fit) -> float:
    """The inliers' error in the map's own unit, larger the fewer they are."""
    error = float(np.hypot(*fit.rmse()))
    return error / float(fit.inliers.mean()) / fit.transform.scale if fit.transform.scale > 0 else np.inf


def _content(fit: Fit, origin: np.ndarray, names: list[str], method: str, level: bool) -> dict[str, Any]:
    from tpsfm.colmap.geodesy import ecef_from_enu, utm_zone

    zone, hemisphere, code = utm_zone(*origin[:2])
    horizontal, vertical = fit.rmse()
    return {
        "method": method,
        "origin": dict(zip(("latitude", "longitude", "altitude"), origin.tolist(), strict=True)),
        "ecef_from_enu": ecef_from_enu(origin).tolist(),
        "utm": {"zone": zone, "hemisphere": hemisphere, "epsg": code},
        "rmse": {"horizontal": horizontal, "vertical": None if level else vertical},
        "residuals": _residuals(names, fit.residuals, fit.inliers),
    }


def _residuals(names: list[str], residuals: np.ndarray, used: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Given less found, in metres."""
    rows = [dict(zip(("east", "north", "up"), row, strict=True)) for row in residuals.round(4).tolist()]
    return [
        {"name": name, **row, **({} if used is None else {"used": bool(used[i])})}
        for i, (name, row) in enumerate(zip(names, rows, strict=True))
    ]


def _check(path: Path, model: Model, transform: Sim3, origin: np.ndarray) -> dict[str, Any]:
    """What the check points tell.

    Raises:
        TpsfmError: the map shows none.
    """
    from tpsfm.colmap.geodesy import to_enu

    points = read_ground_points(path, list(model.images))
    found = find_in_map(points, model, path)
    if not found:
        raise TpsfmError(f"{path}: no point is shown by two photos of the map")
    known = {point.name: point.place for point in points}
    residuals = np.array(
        [to_enu(np.array([known[name]]), origin)[0] - transform(place) for name, place in found.items()]
    )
    squares = (residuals**2).mean(0)
    return {
        "check_points": _residuals(list(found), residuals),
        "check_rmse": {"horizontal": float(np.sqrt(squares[:2].sum())), "vertical": float(np.sqrt(squares[2]))},
    }


def _move(workspace: Workspace, transform: Sim3 | None, content: dict[str, Any] | None) -> None:
    """Replace the map by the moved one, with its record in the same folder, of which the workspace gets a copy."""
    from tpsfm.colmap.geodesy import transform_model

    text = content and json.dumps(content, indent=1) + "\n"
    if transform is not None:
        new = workspace.sparse.with_name("sparse.new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(workspace.sparse, new)
        transform_model(workspace.sparse, new, transform)
        (new / FILE).unlink(missing_ok=True)
        if text:
            write_atomic(new / FILE, text)
        replace_folder(new, workspace.sparse)
    if text:
        write_atomic(workspace.root / FILE, text)
    else:
        (workspace.root / FILE).unlink(missing_ok=True)


def _after(second: Sim3, first: Sim3) -> Sim3:
    """The similarity that does one after the other."""
    return Sim3(second.scale * first.scale, second.rotation @ first.rotation, second(first.translation))


def _inverse(transform: Sim3) -> Sim3:
    rotation = transform.rotation.T
    return Sim3(1 / transform.scale, rotation, -rotation @ transform.translation / transform.scale)

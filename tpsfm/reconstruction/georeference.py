"""The map in the world: metres east, north and up, by the photos' GPS positions or by ground control points."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model
from tpsfm.io.atomic import replace_folder, write_atomic
from tpsfm.io.workspace import Workspace, digest
from tpsfm.photos import Photo, file_digest
from tpsfm.photos.positions import Position, names_in, read_positions
from tpsfm.progress import Progress
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.ground_control import find_in_map, read_ground_points
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.placement import Placement, Upright, adjust, place, stand_upright, usable
from tpsfm.reconstruction.stage import Done, Photos, Stage, key_of, option, photo_keys, photo_records, problem_of
from tpsfm.reconstruction.upright import turn_upright
from tpsfm.reconstruction.world import FILE, residual_rows, rmse_of, world_content

METHOD = 4  # counts up where the same positions give another result
OWN_FRAME = "own_frame"  # folder in `sparse` of a map that was moved, as it was before
_GPS_ERROR, _GCP_ERROR = (10.0, 10.0, 20.0), (3.0, 3.0, 6.0)  # metres, of an inlier east, north and up

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Georeference(Stage):
    """Moves the largest model of `sparse` to metres east, north and up of an origin, and writes georeference.json.

    A similarity from the map's own frame is found from three positions or more: of ground control points, else of
    photos. Where they lie on a line, the photos tell which way is up. The map is then adjusted to its observations and
    the positions, each weighted by its deviation: one that is known, else that of the residuals, apart for the
    horizontal and the vertical.

    Without positions, or where they don't determine it, the map stays in its own frame, and so does a map of known
    poses. `run` raises TpsfmError instead where georeferencing is required or positions are given in a file.
    """

    name: ClassVar[str] = "georeference"
    title: ClassVar[str] = "georeference"

    georeference: str = option(
        "auto",
        "Metres by GPS or ground control; auto: where three photos have GPS; require: or fail.",
        choices=("auto", "off", "require"),
    )
    gps: Path | None = option(
        None, "CSV of positions in place of EXIF's: name,lat,lon,alt[,std_east,std_north,std_up].", path=True
    )
    position_priors: bool = option(
        True, "Adjust the map to the positions of photos or points, weighted by their deviation."
    )
    gcp: Path | None = option(None, "Ground control points, OpenDroneMap's gcp_list.txt.", path=True)
    gcp_accuracy: float | None = option(
        None, "Standard deviation of the ground control points, metres; left out, told by their residuals.", above=0.0
    )
    gcp_check: Path | None = option(None, "Ground control points to measure the map by, likewise.", path=True)

    def problems(self, photos: Photos) -> Iterator[str]:
        if self.gps is not None:
            yield from problem_of(read_positions, self.gps)
        for points in (self.gcp, self.gcp_check):
            if points is not None:
                yield from problem_of(read_ground_points, points, list(photos()))

    def remarks(self, photos: Photos) -> Iterator[str]:
        given = [name for name in ("gps", "gcp", "gcp_check") if self.is_given(name)]
        if self.georeference == "off" and given:
            yield f"--{given[0].replace('_', '-')} has no effect with --georeference off"
        if self.gcp_accuracy is not None and (self.gcp is None or not self.position_priors):
            missing = "without --gcp" if self.gcp is None else "with --no-position-priors"
            yield f"--gcp-accuracy has no effect {missing}"

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        key_of(workspace, Mapping, "tpsfm map")
        if not workspace.manifest["stages"][Mapping.name]["counts"]["models"]:
            workspace.start(self.name)
            (workspace.root / FILE).unlink(missing_ok=True)
            return None
        aligned = key_of(workspace, Alignment, "tpsfm map")
        positions = self._positions(workspace)
        files = [path and file_digest(path) for path in (self.gcp, self.gcp_check)]
        known_poses = Mapping.recorded(workspace).poses is not None
        options = [METHOD, self.georeference, self.position_priors, self.gcp_accuracy, known_poses, self.seed]
        key = digest([aligned, options, sorted(positions.items()), files])
        kept = (workspace.sparse / FILE).exists() == (workspace.root / FILE).exists()
        if kept and self._is_done(workspace, key, workspace.sparse / "images.bin"):
            return None
        workspace.start(self.name)
        own = _own_frame(workspace)
        try:
            stays = self.georeference == "off" or (known_poses and not self._required)
            found = None if stays else self._place(workspace, read_model(own), positions)
        except TpsfmError as problem:
            if self._required:
                raise
            log.warning("not georeferenced: %s", problem)
            found = None
        content = self._move(workspace, own, found, positions, self.position_priors and not known_poses)
        counts: dict[str, Any] = {k: content[k] for k in ("method", "rmse", "check_rmse") if k in content}
        return Done(key, 1, counts=counts)

    @property
    def _required(self) -> bool:
        return self.georeference == "require" or self.gps is not None or self.gcp is not None

    def _positions(self, workspace: Workspace) -> dict[str, Position]:
        """The positions of the photos."""
        names = list(photo_keys(workspace))
        if self.gps is None:
            return positions_of(photo_records(workspace, names))
        given = read_positions(self.gps)
        positions = {photo: given[name] for name, photo in names_in(list(given), names).items()}
        if not positions:
            raise TpsfmError(
                f"{self.gps} names none of the {len(names)} photos, but {next(iter(given), 'nothing')} first"
            )
        return positions

    def _place(self, workspace: Workspace, model: Model, positions: dict[str, Position]) -> Placement | None:
        """A map in its own frame placed by positions; None if they are too few.

        Raises:
            TpsfmError: they give nothing.
        """
        if self.gcp is not None:
            points = read_ground_points(self.gcp, list(model.images))
            known = {point.name: point.place for point in points}
            source = {name: point.place for name, point in find_in_map(points, model, self.gcp).items()}
            what, limit = "ground control points that two photos of the map show", _GCP_ERROR
        else:
            source = {name: pose.center for name, pose in model.images.items() if name in positions}
            known = {name: position.place for name, position in positions.items()}
            what, limit = "photos of the map with a GPS position", _GPS_ERROR
        names, _ = usable(source, known)
        if len(names) < 3:
            if not self._required:
                return None
            raise TpsfmError(f"three {what} are needed at least, and it has {len(names)}")
        found = place(source, known, limit, self.seed)
        if self.gps is not None and self.gcp is None and all(abs(known[name][1]) <= 90 for name in names):
            swapped = place(source, {name: (lon, lat, up) for name, (lat, lon, up) in known.items()}, limit, self.seed)
            if swapped is not None and not swapped.fit.objection and 2 * _spread_error(swapped) < _spread_error(found):
                raise TpsfmError(
                    f"{self.gps} fits the map better with latitude and longitude swapped; swap its columns"
                )
        if found is None:
            raise TpsfmError(f"no three of the {len(names)} {what} agree with the map")
        rotations = {name: pose.rotation for name, pose in model.images.items()}
        try:
            return stand_upright(found, rotations, _upright(workspace, rotations))
        except TpsfmError as problem:
            raise TpsfmError(f"{self.gcp or self.gps or 'the GPS of the photos'}: {problem}") from None

    def _move(
        self, workspace: Workspace, own: Path, found: Placement | None, positions: dict[str, Position], adjusted: bool
    ) -> dict[str, Any]:
        """Replace the map by the moved one, or that of its own frame; returns the content of its georeference.json."""
        from tpsfm.colmap.geodesy import transform_model

        (workspace.root / FILE).unlink(missing_ok=True)
        if found is None and own == workspace.sparse:
            return {}
        new = workspace.sparse.with_name("sparse.new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(workspace.sparse, new, ignore=shutil.ignore_patterns(OWN_FRAME, FILE))
        kept = new if found is None else new / OWN_FRAME
        kept.mkdir(exist_ok=True)
        for file in own.glob("*.bin"):
            shutil.copyfile(file, kept / file.name)
        content: dict[str, Any] = {}
        if found is not None:
            transform_model(own, new, found.fit.transform)
            content = self._measure(workspace, new, found, positions, adjusted)
            text = json.dumps(content, indent=1) + "\n"
            write_atomic(new / FILE, text)
        replace_folder(new, workspace.sparse)
        if found is not None:
            write_atomic(workspace.root / FILE, text)
        return content

    def _measure(
        self, workspace: Workspace, folder: Path, found: Placement, positions: dict[str, Position], adjusted: bool
    ) -> dict[str, Any]:
        """What georeference.json tells of the map in a folder, which is adjusted to the positions before."""
        fit, method = found.fit, "gps" if self.gcp is None else "gcp"
        content, residuals, used = world_content(found.origin, fit.transform, method), fit.residuals, fit.inliers
        if found.upright:
            content["upright"] = {"by": found.upright, "degrees": float(np.degrees(found.tilt))}
        if adjusted:
            content["rmse_before_adjustment"] = rmse_of(residuals[used])
            residuals = self._adjust(workspace, folder, found, positions)
        rmse: dict[str, float | None] = {**rmse_of(residuals[used])}
        if found.level:
            rmse["vertical"] = None
        content |= {"rmse": rmse, "residuals": residual_rows(found.names, residuals, used)}
        if self.gcp_check is not None:
            content |= _check(self.gcp_check, read_model(folder), found.origin)
        return content

    def _adjust(
        self, workspace: Workspace, folder: Path, found: Placement, positions: dict[str, Position]
    ) -> np.ndarray:
        """Adjust the map in a folder to the positions of photos or of ground control points; the residuals [N, 3]."""
        from tpsfm.colmap.position_priors import KnownPoint, adjust_to_points, adjust_to_positions

        model = read_model(folder)
        if self.gcp is None:
            deviations = np.array([positions[name].deviation for name in found.names])

            def hold(places: dict[str, np.ndarray], deviations: dict[str, np.ndarray]) -> None:
                adjust_to_positions(folder, folder, places, deviations)

            def find() -> dict[str, np.ndarray]:
                return {name: pose.center for name, pose in read_model(folder).images.items()}

        else:
            gcp, deviations = self.gcp, np.full((len(found.names), 3), self.gcp_accuracy or np.nan)
            points = read_ground_points(gcp, list(model.images))
            seen = find_in_map(points, model, gcp)

            def hold(places: dict[str, np.ndarray], deviations: dict[str, np.ndarray]) -> None:
                known = [KnownPoint(places[name], deviations[name], seen[name].sightings) for name in places]
                adjust_to_points(folder, folder, known)

            def find() -> dict[str, np.ndarray]:
                return {name: point.place for name, point in find_in_map(points, read_model(folder), gcp).items()}

        return adjust(folder, found, deviations, hold, find, _upright(workspace, model.images))


def positions_of(photos: dict[str, Photo]) -> dict[str, Position]:
    """The positions that the photos themselves have; heights are those above take-off where no others are known."""
    placed = {name: photo for name, photo in photos.items() if photo.gps is not None}
    above_start = not any(math.isfinite(photo.gps[2]) for photo in placed.values() if photo.gps)
    unknown = (math.nan, math.nan, math.nan)
    positions = {}
    for name, photo in placed.items():
        assert photo.gps is not None
        latitude, longitude, altitude = photo.gps
        if above_start and photo.relative_altitude is not None:
            altitude = photo.relative_altitude
        positions[name] = Position((latitude, longitude, altitude), photo.gps_deviation or unknown)
    return positions


def _own_frame(workspace: Workspace) -> Path:
    """The folder of the map in its own frame."""
    folder = workspace.sparse / OWN_FRAME
    if folder.exists():
        return folder
    if (workspace.sparse / FILE).exists():
        raise TpsfmError(
            f"the map in {workspace.sparse} was moved by an older tpsfm; delete this folder and run 'tpsfm map' again"
        )
    return workspace.sparse


def _upright(workspace: Workspace, names: Iterable[str]) -> Upright:
    """What the photos of a workspace tell of the turn about a line."""
    photos, turns = photo_records(workspace, names), workspace.manifest.get("turns", {})
    return lambda line, rotations: turn_upright(line, rotations, photos, turns)


def _spread_error(found: Placement | None) -> float:
    """The inliers' error in the map's own unit, larger the fewer they are; infinite where none agree."""
    if found is None or found.fit.transform.scale <= 0:
        return np.inf
    return float(np.hypot(*found.fit.rmse())) / float(found.fit.inliers.mean()) / found.fit.transform.scale


def _check(path: Path, model: Model, origin: np.ndarray) -> dict[str, Any]:
    """What the check points tell of a map in metres about an origin.

    Raises:
        TpsfmError: the map shows none.
    """
    from tpsfm.colmap.geodesy import to_enu

    points = read_ground_points(path, list(model.images))
    found = find_in_map(points, model, path)
    if not found:
        raise TpsfmError(f"{path}: no point is shown by two photos of the map")
    known = {point.name: point.place for point in points}
    residuals = np.array([to_enu(np.array([known[name]]), origin)[0] - point.place for name, point in found.items()])
    return {"check_points": residual_rows(list(found), residuals), "check_rmse": rmse_of(residuals)}

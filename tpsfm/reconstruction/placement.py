"""Where a map lies in the world: found by places that are known, turned upright by its photos, adjusted to both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import turn_about
from tpsfm.geometry.robust import UNKNOWNS, Fit, fit_positions
from tpsfm.geometry.vertical import Turn

_LEAST_DEVIATION = 0.005  # metres of a place that is told by its residuals
_ROUNDS = 2  # of adjustment, where the residuals of the first tell the deviations of the second
_WORST_TILT = np.radians(10)  # standard deviation of the turn about a line of places that is still good enough

Upright = Callable[[np.ndarray, Mapping[str, np.ndarray]], tuple[Turn, str]]
"""Of a line in metres and the photos' rotations by name: the turn about it that puts the map upright, and by what."""


@dataclass(frozen=True)
class Placement:
    """A map in its own frame placed in metres about an origin.

    Attributes:
        fit: of what is in the map to what is known, in metres.
        origin: float64 [3], latitude, longitude and altitude.
        names: of the places.
        metres: float64 [N, 3], where they are known to be.
        level: whether no altitude was known, so that all are taken to be at one height.
        upright: by what the turn about the line of the places is known, where they don't tell it; "" else.
        tilt: standard deviation of that turn, radians.
    """

    fit: Fit
    origin: np.ndarray
    names: list[str]
    metres: np.ndarray
    level: bool
    upright: str = ""
    tilt: float = 0.0


def place(
    source: Mapping[str, np.ndarray],
    known: Mapping[str, tuple[float, float, float]],
    limit: tuple[float, float, float],
    seed: int,
) -> Placement | None:
    """Place a map by three places or more; None where no three agree.

    Args:
        source: where they are in the map, float64 [3] by name.
        known: latitude, longitude and altitude by name, the altitude nan where unknown.
        limit: metres east, north and up that one may be off.
    """
    from tpsfm.colmap.geodesy import to_enu

    names, level = usable(source, known)
    given = np.array([known[name] for name in names])
    if level:
        given[:, 2] = np.nanmean(given[:, 2]) if np.isfinite(given[:, 2]).any() else 0.0
    origin = np.median(given, axis=0)
    metres = to_enu(given, origin)
    fit = fit_positions(np.array([source[name] for name in names]), metres, np.array(limit), seed)
    return None if fit is None else Placement(fit, origin, names, metres, level)


def usable(source: Mapping[str, np.ndarray], known: Mapping[str, tuple[float, float, float]]) -> tuple[list[str], bool]:
    """The names of the places that place a map; whether for want of altitudes they are taken to be at one height."""
    level = sum(np.isfinite(known[name][2]) for name in source) < 3
    return [name for name in source if level or np.isfinite(known[name][2])], level


def stand_upright(found: Placement, rotations: Mapping[str, np.ndarray], upright: Upright) -> Placement:
    """Turn a map about the line of its places where the photos tell that turn better than the places do.

    Photos that contradict the places are not believed, unless the places' errors could be alike, as those of a GPS
    that drifts are: then many places tell no more than one.

    Args:
        rotations: by name, from the map's own frame to the camera.

    Raises:
        TpsfmError: neither tells it, or the places are too close together.
    """
    fit = found.fit
    if fit.objection:
        raise TpsfmError(fit.objection)
    turn, by = upright(fit.line, {name: R @ fit.transform.rotation.T for name, R in rotations.items()})
    drifting = fit.tilt * np.sqrt(fit.inliers.sum())
    agrees = abs(turn.angle) < 3 * np.hypot(turn.deviation, drifting)
    if turn.deviation < min(fit.tilt, _WORST_TILT) and (agrees or fit.tilt > _WORST_TILT):
        return replace(found, fit=fit.turned(turn.angle), upright=by, tilt=turn.deviation)
    if fit.tilt > _WORST_TILT:
        raise TpsfmError(
            "the positions lie on a line, about which the map could turn, and the photos aren't held so that they"
            " tell which way is up; give ground control points beside it"
        )
    return found


def adjust(
    folder: Path,
    found: Placement,
    deviations: np.ndarray,
    hold: Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], None],
    find: Callable[[], dict[str, np.ndarray]],
    upright: Upright,
) -> np.ndarray:
    """Adjust the map in a folder to the places that fit.

    Args:
        folder: of the map, in metres.
        deviations: float64 [N, 3] of the places, metres; nan is told by the residuals, apart for horizontal and up.
        hold: adjusts the map in the folder to places and deviations, float64 [3] by name.
        find: where the places are in the map of the folder, by name.

    Returns:
        The residuals of all places, float64 [N, 3], given less found.
    """
    from tpsfm.colmap.geodesy import transform_model

    used, residuals = found.fit.inliers, found.fit.residuals
    rows = np.flatnonzero(used)
    for _ in range(_ROUNDS if np.isnan(deviations[used]).any() else 1):
        squares = (residuals[used] ** 2).sum(0) / max(len(rows) - UNKNOWNS / 3, 1)
        horizontal, vertical = np.sqrt([squares[:2].mean(), squares[2]]).clip(_LEAST_DEVIATION)
        now = np.where(np.isnan(deviations), [horizontal, horizontal, vertical], deviations)
        hold({found.names[row]: found.metres[row] for row in rows}, {found.names[row]: now[row] for row in rows})
        if found.upright:
            rotations = {name: pose.rotation for name, pose in read_model(folder).images.items()}
            angle = upright(found.fit.line, rotations)[0].angle
            transform_model(folder, folder, turn_about(found.fit.line, angle, found.metres[used].mean(0)))
        there = find()
        residuals = found.metres - np.array([there.get(name, np.full(3, np.nan)) for name in found.names])
        used = used & np.isfinite(residuals).all(1)
    return residuals

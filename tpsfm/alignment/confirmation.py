"""Whether photos show what a map says they show: points of one photo that another should see are looked for there.

Two places that look alike, taken for one, share many matches on what is alike; what stands about it is only seen by the
photos of the one or the other. In a map that is right most such points are confirmed by their patches, in whichever
photo they fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tpsfm.alignment.tracks import Patches, View, align_to_patches, projected_axes
from tpsfm.parallel import in_parallel

MAX_POINTS = 40  # of a photo that are looked for in another, and as many at most of those that both show
MIN_TRIED = 15  # of them, for the photo to be judged
MAX_ANGLE = 25.0  # degrees between the two photos' views of a point
MAX_SCALE = 1.6  # of a point's patch between the two
MIN_ZNCC, MAX_DISPLACEMENT = 0.6, 4.0  # pixels, of a patch that is found
COMPARABLE = 0.6  # share of the points that both show whose patches must be found: by night they aren't
CELLS = 24  # along the longer side of a photo, in which its own points are kept
BEHIND = 1.05  # times the distance of a photo's own points: a point farther away is hidden
BORDER = 10.0  # pixels


@dataclass(frozen=True)
class Confirmation:
    """What one photo should show of another, apart from what keypoints of both show, and what it does show.

    Attributes:
        tried: points of the other that it should show.
        found: how many of them are there.
    """

    tried: int
    found: int


@dataclass(frozen=True)
class MapViews:
    """A map and its photos, V of them.

    Attributes:
        points: float64 [P, 3].
        patches: of the points.
        seen: V sorted int64 [K], the points that each photo sees.
        views: of the photos.
        sizes: (width, height) of each, in the pixels of its view.
    """

    points: np.ndarray
    patches: Patches
    seen: Sequence[np.ndarray]
    views: Sequence[View]
    sizes: Sequence[tuple[float, float]]


def confirm(
    scene: MapViews,
    partners: Mapping[int, Sequence[int]],
    progress: Callable[[int, int], None] | None = None,
    parallel: Callable[..., Iterator[tuple[int, Sequence[np.ndarray]]]] = in_parallel,
) -> dict[tuple[int, int], Confirmation]:
    """Look for points of photos in others.

    Args:
        partners: by photo, those whose points are looked for in it; each photo is read once.
        progress: called with (photos read, of how many).
        parallel: `in_parallel`, or that of a `tpsfm.io.journal.Journal`.

    Returns:
        By (photo, other): what was found in the first of the second's points. Photos that should show few of them are
        left out, and those whose patches can't be compared, as by day and by night.
    """
    found: dict[tuple[int, int], Confirmation] = {}
    jobs = ((v, (v, scene, others)) for v, others in partners.items())
    for done, (v, (confirmed,)) in enumerate(parallel(_confirm, jobs), 1):
        found |= {(v, other): Confirmation(*counts) for other, *counts in confirmed.tolist()}
        if progress is not None:
            progress(done, len(partners))
    return found


def _confirm(v: int, scene: MapViews, others: Sequence[int]) -> Sequence[np.ndarray]:
    """Rows int64 [N, 3] of another photo, and how many of its points were tried and found."""
    view, nearest = scene.views[v], _distances(scene, v)
    expected = {other: _expected(scene, v, other, nearest) for other in others}
    expected = {other: rows for other, rows in expected.items() if len(rows[0]) >= MIN_TRIED}
    image = view.read() if expected else None
    if image is None:
        return [np.empty((0, 3), int)]
    groups = [rows for both in expected.values() for rows in both]
    every = np.concatenate(groups)
    jacobians = projected_axes(view, scene.points[every], scene.patches.axes[every])
    aligned = align_to_patches(image, scene.patches, every, view.project(scene.points[every]), jacobians)
    near = np.linalg.norm(aligned.displacement, axis=1) < MAX_DISPLACEMENT
    there = near & (np.nan_to_num(aligned.zncc) > MIN_ZNCC)
    ends = np.cumsum([len(rows) for rows in groups])[:-1]
    tried = [int(part.sum()) for part in np.split(np.isfinite(aligned.zncc), ends)]
    found = [int(part.sum()) for part in np.split(there, ends)]
    rows = [
        (other, tried[2 * i], found[2 * i])
        for i, other in enumerate(expected)
        if tried[2 * i] >= MIN_TRIED and found[2 * i + 1] >= max(1, COMPARABLE * tried[2 * i + 1])
    ]
    return [np.array(rows, int).reshape(-1, 3)]


def _expected(scene: MapViews, v: int, other: int, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of another photo that photo `v` should show apart from those that both show; and of these some."""
    view, size, points = scene.views[v], scene.sizes[v], scene.points
    both = np.intersect1d(scene.seen[other], scene.seen[v], assume_unique=True)
    rows = np.setdiff1d(scene.seen[other], both, assume_unique=True)
    rows, both = (some[scene.patches.reference[some] >= 0] for some in (rows, both))
    pixels = view.project(points[rows])
    inside = np.isfinite(pixels).all(1) & (pixels > BORDER).all(1) & (pixels < np.array(size) - BORDER).all(1)
    rows, cells = rows[inside], _cells(pixels[inside], size)
    alike = np.zeros(nearest.shape, np.uint8)
    shown = view.project(points[both])
    alike[_cells(shown[np.isfinite(shown).all(1)], size)] = 1
    own, their = view.center - points[rows], scene.views[other].center - points[rows]
    distance = np.linalg.norm(own, axis=1)
    cosine = (own * their).sum(1) / (distance * np.linalg.norm(their, axis=1))
    scale = np.abs(np.linalg.det(projected_axes(view, points[rows], scene.patches.axes[rows])))
    scale /= np.abs(np.linalg.det(scene.patches.jacobians[rows])).clip(1e-12)
    expected = (
        (cv2.dilate(alike, np.ones((3, 3), np.uint8))[cells] == 0)
        & (cosine > np.cos(np.radians(MAX_ANGLE)))
        & (distance < BEHIND * nearest[cells])
        & (scale < MAX_SCALE**2)
        & (scale > MAX_SCALE**-2)
    )
    return _some(rows[expected]), _some(both)


def _some(rows: np.ndarray) -> np.ndarray:
    """At most `MAX_POINTS` of them, evenly chosen."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_POINTS)).astype(int)]


def _distances(scene: MapViews, v: int) -> np.ndarray:
    """The distance of the nearest point that a photo sees in each of its cells; infinite where there is none."""
    found = np.full((CELLS + 2, CELLS + 2), np.inf)
    points = scene.points[scene.seen[v]]
    pixels = scene.views[v].project(points)
    known = np.isfinite(pixels).all(1)
    distance = np.linalg.norm(points[known] - scene.views[v].center, axis=1)
    np.minimum.at(found, _cells(pixels[known], scene.sizes[v]), distance)
    return found


def _cells(pixels: np.ndarray, size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of pixels [N, 2]."""
    column, row = (pixels * (CELLS / max(size))).clip(0, CELLS).astype(int).T
    return row, column

"""What lies in the same place of every photo: a banner, a watermark, a bonnet, dirt on the lens.

Its matches don't move in the image. Nor do those of photos from one tripod, or of what is far away; but these agree
with the epipolar geometry of the matches that move, and what lies over the photos contradicts it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

STILL = 0.002  # of the longer side, by which a match may move and is still; 1 pixel at least
NEAR = 0.03  # of the longer side, about a place of the overlay: still matches are of it
MIN_STILL = 8  # matches of a pair, and
STILL_SHARE = 0.02  # of them, for the pair to be looked at
MIN_MOVING = 20  # matches of a pair that move and agree on a motion, at least half of those that move
EXPLAINED = 0.97  # share of both that one geometry explains where there is no overlay; 0.998 in the benchmarks
MAX_ERROR = 0.003  # of the longer side, from the epipolar line
MAX_MATCHES = 1000  # of a pair that are looked at
MIN_PAIRS, PAIR_SHARE = 3, 0.25  # pairs that must show it, and their share of those that could
VOTE_SHARE = 0.1  # of these that show the same place, and two at least

Size = tuple[int, int]


@dataclass(frozen=True)
class MatchedPair:
    """The matches of two photos of one size.

    Attributes:
        size: (width, height), pixels.
        first, second: float [M, 2], the keypoints of each match.
    """

    size: Size
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True)
class Overlay:
    """Places of photos of some sizes that belong to what is laid over them.

    Attributes:
        places: by size, bool [rows, columns] in cells of `cell(size)` pixels.
    """

    places: dict[Size, np.ndarray] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.places)

    @cached_property
    def digest(self) -> str:
        """Of the places."""
        parts = [str(size).encode() + places.tobytes() for size, places in sorted(self.places.items())]
        return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()

    @cached_property
    def _near(self) -> dict[Size, np.ndarray]:
        found = {}
        for size, places in self.places.items():
            radius = round(NEAR * max(size) / cell(size))
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
            found[size] = cv2.dilate(places.astype(np.uint8), disc) > 0
        return found

    def covers(self, size: Size, keypoints: np.ndarray) -> np.ndarray:
        """Which keypoints [N, 2] of a photo are of the overlay: bool [N]."""
        places = self.places.get(size)
        return np.zeros(len(keypoints), bool) if places is None else places[_cells(size, keypoints)]

    def without(self, pair: MatchedPair, size1: Size) -> np.ndarray:
        """Which matches of a pair, the second photo of `size1`, are not of the overlay: bool [M]."""
        of_it = self.covers(pair.size, pair.first) | self.covers(size1, pair.second)
        if pair.size == size1 and pair.size in self.places:
            of_it |= is_still(pair) & self._near[pair.size][_cells(pair.size, pair.first)]
        return ~of_it


def cell(size: Size) -> float:
    """Pixels along a side of the cells in which places of a photo are told."""
    return max(STILL * max(size), 1.0)


def _cells(size: Size, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each keypoint [N, 2]."""
    x, y = (np.clip(values, 0, side - 1) / cell(size) for values, side in zip(keypoints.T, size, strict=True))
    return y.astype(int), x.astype(int)


def is_still(pair: MatchedPair) -> np.ndarray:
    """Which matches don't move in the image: bool [M]."""
    return np.linalg.norm(pair.first - pair.second, axis=1) < cell(pair.size)


def find_overlay(pairs: Iterable[MatchedPair]) -> Overlay:
    """What lies in the same place of photos while the rest moves.

    Args:
        pairs: some of those that were matched.
    """
    shown: dict[Size, list[np.ndarray]] = {}  # the cells of each pair that shows it
    could: dict[Size, int] = {}
    for pair in pairs:
        of_overlay = contradicting(pair)
        if of_overlay is None:
            continue
        could[pair.size] = could.get(pair.size, 0) + 1
        if of_overlay.any():
            width, height = (int(np.ceil(side / cell(pair.size))) for side in pair.size)
            grid = np.zeros((height, width), np.uint8)
            grid[_cells(pair.size, (pair.first[of_overlay] + pair.second[of_overlay]) / 2)] = 1
            shown.setdefault(pair.size, []).append(cv2.dilate(grid, np.ones((3, 3), np.uint8)))
    places: dict[Size, np.ndarray] = {}
    for size, grids in shown.items():
        if len(grids) >= max(MIN_PAIRS, PAIR_SHARE * could[size]):
            votes = np.sum(grids, axis=0, dtype=np.int32)
            found = np.asarray(votes >= max(2, VOTE_SHARE * len(grids)))
            if found.any():
                places[size] = found
    return Overlay(places)


def contradicting(pair: MatchedPair) -> np.ndarray | None:
    """Which matches don't move and contradict those that do: bool [M]; None where nothing, or all, moves."""
    still = is_still(pair)
    none = np.zeros(len(still), bool)
    if still.sum() < max(MIN_STILL, STILL_SHARE * len(still)):
        return none if (~still).sum() >= 4 * MIN_MOVING else None
    chosen = np.linspace(0, len(still) - 1, min(len(still), MAX_MATCHES)).astype(int)
    first, second, resting = pair.first[chosen], pair.second[chosen], still[chosen]
    error = max(MAX_ERROR * max(pair.size), 2.0)
    geometry, agree = _fundamental(first[~resting], second[~resting], error)
    if geometry is None or agree.sum() < max(MIN_MOVING, 0.5 * (~resting).sum()):
        return None
    _, all_agree = _fundamental(first, second, error)
    if all_agree.sum() >= EXPLAINED * (agree.sum() + resting.sum()):
        return none
    lines = np.column_stack([pair.first, np.ones(len(still))]) @ geometry.T
    distance = np.abs((lines[:, :2] * pair.second).sum(1) + lines[:, 2]) / np.linalg.norm(lines[:, :2], axis=1)
    return still & (distance > error)


def _fundamental(first: np.ndarray, second: np.ndarray, error: float) -> tuple[np.ndarray | None, np.ndarray]:
    """The fundamental matrix that most matches agree with, and which do: bool [M]."""
    if len(first) < MIN_MOVING:
        return None, np.zeros(len(first), bool)
    try:
        geometry, agree = cv2.findFundamentalMat(first, second, cv2.USAC_DEFAULT, error, 0.999, 2000)
    except cv2.error:  # as in `screening`
        geometry = None
    if geometry is None or geometry.shape != (3, 3):
        return None, np.zeros(len(first), bool)
    return geometry, agree.ravel() > 0

"""Which photos to match with each other: every choice is a sorted list of unique pairs of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from unicodedata import normalize

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import write_atomic

if TYPE_CHECKING:
    from tpsfm.retrieval.index import Index

Name = TypeVar("Name", bound=Hashable)
Pair = tuple[str, str]
"""Two image names, the lesser first."""

LINKING, LINKS = 100, 5  # photos of a part that are paired with others at most, and with how many each

EQUATOR_RADIUS = 6378137.0  # metres, WGS84
ECCENTRICITY_SQUARED = 6.69437999014e-3


def canonical(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs sorted, each once with the lesser name first, none of a photo with itself."""
    return sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})


def components(names: Iterable[Name], pairs: Iterable[tuple[Name, Name]]) -> list[list[Name]]:
    """The parts of photos that pairs connect, the largest first; a photo of no pair is a part by itself."""
    part = {name: [name] for name in names}
    for first, second in pairs:
        if part[first] is not part[second]:
            large, small = sorted((part[first], part[second]), key=len, reverse=True)
            large += small
            part |= dict.fromkeys(small, large)
    return sorted({id(members): members for members in part.values()}.values(), key=len, reverse=True)


def exhaustive(names: Iterable[str]) -> list[Pair]:
    """Every pair there is."""
    return list(combinations(sorted(set(names)), 2))


def sequential(names: Iterable[str], overlap: int = 10, quadratic: bool = True) -> list[Pair]:
    """Each photo with those that follow it, in natural order ('frame9' before 'frame10').

    Args:
        names: of the photos.
        overlap: number of following photos to take, at least 1.
        quadratic: take those 1, 2, 4, ... 2^(overlap - 1) steps ahead, too.

    Raises:
        TpsfmError: overlap is less than 1.
    """
    if overlap < 1:
        raise TpsfmError(f"the overlap of sequential pairs must be at least 1, not {overlap}")
    ordered = sorted(set(names), key=_natural)
    steps = set(range(1, overlap + 1))
    if quadratic:
        steps |= {2**power for power in range(overlap)}
    return canonical(pair for step in steps for pair in zip(ordered, ordered[step:], strict=False))


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key that compares runs of digits as numbers; text and numbers alternate in it, text first."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def from_gps(names: Sequence[str], positions: np.ndarray, neighbours: int = 20) -> list[Pair]:
    """Each photo with its nearest ones; a photo without a position is in no pair.

    Args:
        names: of N photos.
        positions: float [N, 3], metres, as `gps_to_metres` gives them; NaN where unknown.
        neighbours: greatest number of neighbours each photo chooses, at least 1.

    Raises:
        TpsfmError: fewer than two photos have a position, or an option is out of its range.
    """
    from scipy.spatial import KDTree

    _check_neighbours(neighbours)
    positions = np.asarray(positions, np.float64).reshape(-1, 3)
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    if len(known) < 2:
        raise TpsfmError(
            f"{len(known)} of {len(names)} photos have a GPS position in their EXIF data; choose other pairs"
        )
    positions = positions[known]
    count = min(neighbours, len(known) - 1)
    pairs: list[Pair] = []
    for row, columns in enumerate(KDTree(positions).query(positions, count + 1)[1]):
        others = [column for column in columns if column != row][:count]  # of many at one place it may miss itself
        pairs.extend((names[known[row]], names[known[column]]) for column in others)
    return canonical(pairs)


def gps_to_metres(latitude: np.ndarray, longitude: np.ndarray, altitude: np.ndarray) -> np.ndarray:
    """Positions east, north and up of the first known one.

    Args:
        latitude, longitude: float [N], WGS84 degrees; NaN where unknown.
        altitude: float [N], metres; one that is unknown (NaN) is taken to be the mean of the known ones.

    Returns:
        float64 [N, 3], metres; NaN where latitude or longitude is.
    """
    latitude, longitude = np.radians(np.asarray(latitude, float)), np.radians(np.asarray(longitude, float))
    altitude = np.asarray(altitude, float)
    given = np.isfinite(altitude)
    altitude = np.where(given, altitude, altitude[given].mean() if given.any() else 0.0)
    radius = EQUATOR_RADIUS / np.sqrt(1 - ECCENTRICITY_SQUARED * np.sin(latitude) ** 2)
    centred = np.stack(
        [
            (radius + altitude) * np.cos(latitude) * np.cos(longitude),
            (radius + altitude) * np.cos(latitude) * np.sin(longitude),
            (radius * (1 - ECCENTRICITY_SQUARED) + altitude) * np.sin(latitude),
        ],
        axis=1,
    )
    known = np.flatnonzero(np.isfinite(centred).all(axis=1))
    if not len(known):
        return centred
    sin_lat, cos_lat = np.sin(latitude[known[0]]), np.cos(latitude[known[0]])
    sin_lon, cos_lon = np.sin(longitude[known[0]]), np.cos(longitude[known[0]])
    east_north_up = np.array(
        [
            [-sin_lon, cos_lon, 0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )
    return (centred - centred[known[0]]) @ east_north_up.T


def from_retrieval(
    names: Sequence[str], descriptors: Callable[[str], np.ndarray], neighbours: int = 20, apart: int = 0
) -> list[Pair]:
    """Each photo with those that look most like it; a photo whose descriptor is zero is in no pair.

    Where that leaves the photos in parts, as walks past the same place whose photos look most like each other, some of
    each part are paired with those of the others that look most like them.

    Args:
        names: of the photos.
        descriptors: gives an image's global descriptor, float32 [G], unit norm or all zero; called twice at most.
        neighbours: number of neighbours each photo chooses, at least 1.
        apart: photos no more than so far from it in natural order aren't chosen, to close loops of a sequence; parts
            are then left as they are.

    Raises:
        TpsfmError: neighbours is less than 1.
    """
    from tpsfm.retrieval.index import Index

    _check_neighbours(neighbours)
    index = Index()
    for name in names:
        vector = descriptors(name)
        if vector.any():
            index.add([name], vector[None])
    place = {name: row for row, name in enumerate(sorted(names, key=_natural))}
    pairs: list[Pair] = []
    for name, found in index.neighbours(neighbours + 2 * apart):
        others = [other for other, _ in found if not apart or abs(place[other] - place[name]) > apart]
        pairs += [(name, other) for other in others[:neighbours]]
    if not apart:
        pairs += _links(index, pairs, descriptors)
    return canonical(pairs)


def _links(index: Index, pairs: Iterable[Pair], descriptors: Callable[[str], np.ndarray]) -> Iterator[Pair]:
    """Pairs of photos of each part that pairs leave, but the largest, with those of others that look most like them."""
    for part in components(index.names, pairs)[1:]:
        some = [part[i] for i in np.unique(np.linspace(0, len(part) - 1, LINKING).astype(int))]
        found, _ = index.search(np.stack([descriptors(name) for name in some]), len(part) + LINKS)
        own = set(part)
        for name, rows in zip(some, found, strict=True):
            others = (other for other in map(index.names.__getitem__, rows) if other not in own)
            yield from ((name, other) for other in islice(others, LINKS))


def from_covisibility(seen: Mapping[str, np.ndarray], neighbours: int = 20, min_shared: int = 1) -> list[Pair]:
    """Each photo with those that share most points with it in a map that is there already.

    Args:
        seen: by name the points that a photo sees, integers [K] from 0.
        neighbours: greatest number of neighbours each photo chooses, at least 1.
        min_shared: points that two photos of a pair share at least.

    Raises:
        TpsfmError: neighbours is less than 1.
    """
    _check_neighbours(neighbours)
    names = list(seen)
    points = {name: np.unique(rows) for name, rows in seen.items()}
    photo = np.repeat(np.arange(len(names)), [len(rows) for rows in points.values()])
    point = np.concatenate([np.empty(0, np.int64), *points.values()])
    order = np.argsort(point, kind="stable")
    photo, starts = photo[order], np.searchsorted(point[order], np.arange(point.max(initial=-1) + 2))
    pairs = []
    for row, name in enumerate(names):
        tracks = [photo[starts[i] : starts[i + 1]] for i in points[name]]
        others, shared = np.unique(np.concatenate([np.empty(0, np.int64), *tracks]), return_counts=True)
        enough = (others != row) & (shared >= min_shared)
        nearest = others[enough][np.argsort(-shared[enough], kind="stable")[:neighbours]]
        pairs += [(name, names[other]) for other in nearest]
    return canonical(pairs)


def _check_neighbours(neighbours: int) -> None:
    if neighbours < 1:
        raise TpsfmError(f"the number of neighbours must be at least 1, not {neighbours}")


def read_pairs(path: Path, names: Iterable[str]) -> list[Pair]:
    """Pairs from a text file, one a line: two names with a tab or, if that is unambiguous, a space between.

    Empty lines and lines that begin with '#' (and name no pair) are skipped.

    Args:
        path: of the file.
        names: the photos there are.

    Raises:
        TpsfmError: the file can't be read, has no pair, or a row doesn't name two photos of `names`.
    """
    path, names = Path(path), set(names)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError as error:
        raise TpsfmError(f"cannot read the pairs in {path}: {error.strerror}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\n")
        found = _split(line, "\t", names) or _split(line, " ", names) or _split_composed(line, names)
        if len(found) == 1 and found[0][0] != found[0][1]:
            pairs.append(found[0])
        elif found or (line.strip() and not line.startswith("#")):
            why = "is ambiguous, put a tab between the names" if len(found) > 1 else "doesn't name two photos"
            raise TpsfmError(f"row {number} of {path} {why}: {line.strip()[:200]!r}")
    if not pairs:
        raise TpsfmError(f"{path} holds no pair; write two names a line with a tab between them")
    return canonical(pairs)


def _split(line: str, separator: str, names: set[str]) -> list[Pair]:
    """Every way to cut the line at a separator into two known names, with or without blanks around them."""
    sides = {(line[: cut.start()], line[cut.end() :]) for cut in re.finditer(separator, line)}
    sides |= {(left.strip(), right.strip()) for left, right in sides}
    return sorted(pair for pair in sides if pair[0] in names and pair[1] in names)


def _split_composed(line: str, names: set[str]) -> list[Pair]:
    """As `_split`, where letters with marks are composed otherwise in the file (NFC, NFD) than in the names."""
    composed = {normalize("NFC", name): name for name in names}
    line = normalize("NFC", line)
    found = _split(line, "\t", set(composed)) or _split(line, " ", set(composed))
    return [(composed[first], composed[second]) for first, second in found]


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write one pair a line, a tab between the names; the file is whole or, after a crash, the old one."""
    write_atomic(path, "".join(f"{name0}\t{name1}\n" for name0, name1 in pairs))

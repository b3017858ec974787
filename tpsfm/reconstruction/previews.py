"""Small copies of photos, turned by eighths: how two photos are turned against each other, and which look alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor, Features
from tpsfm.pairs.selection import Pair, canonical
from tpsfm.parallel import in_parallel
from tpsfm.photos import Photo, upright

if TYPE_CHECKING:
    from tpr.vlad import Vocabulary

TURNS = 8  # of a small copy, by 45°
LONGER_SIDE = 480  # pixels of the small copies
KEYPOINTS = 256  # of each, the strongest
NEIGHBOURS = 20  # with which each photo is compared
RATIO = 0.9
MIN_MATCHES = 20  # over two turns of the first photo
MIN_MATCH_RATIO = 1.5  # of the best turn to the best that is no neighbour of it
MIN_INLIERS = 10  # of the matches, that agree on one similarity
MAX_ERROR = 0.03  # of the longer side, by which they may miss it
ROWS = 1024  # photos that are compared with all others at a time
SAMPLE_NEIGHBOURS = 5  # with which each photo of a sample is compared

Preview = Sequence[Features]


def preview(extractor: Extractor, photo: Photo | np.ndarray, side: int = LONGER_SIDE, turns: int = TURNS) -> Preview:
    """Features of a small copy of a photo, turned clockwise by 0, 1, 2 ... eighths of a full turn.

    Args:
        extractor: any.
        photo: its record, or its pixels, uint8 [H, W, 3] or [H, W].
        side: pixels of the copy's longer side.
        turns: how many of the eight.

    Returns:
        The strongest features at each turn, packed, in pixels of the copy that is not turned.

    Raises:
        TpsfmError: the photo can't be read.
    """
    from tpsfm.features.scaling import shrunk
    from tpsfm.features.upright import upright_features

    if isinstance(photo, Photo):
        small = upright(shrunk(photo.decode(least=side), side), photo.orientation)
    else:
        small = shrunk(photo, side)
    strongest = np.arange(KEYPOINTS)
    found = (upright_features(extractor, small, None, 1, turn=turn * 360 / TURNS) for turn in range(turns))
    return [level.select(strongest[: len(level)]).packed() for level in found]


def previews(
    extractor: Extractor,
    photos: Mapping[str, Photo],
    side: int,
    turns: Mapping[str, int],
    update: Callable[[int, int], None],
) -> dict[str, Preview]:
    """`preview` of all photos that can be read, by name.

    Args:
        extractor, side: as for `preview`.
        photos: their records.
        turns: of each.
        update: called with (photos done, of how many).
    """

    def one(photo: Photo, name: str) -> Preview | None:
        with suppress(TpsfmError):
            return preview(extractor, photo, side, turns[name])
        return None

    found = {}
    jobs = ((name, (photo, name)) for name, photo in photos.items())
    for done, (name, levels) in enumerate(in_parallel(one, jobs, most=extractor.at_once), 1):
        if levels is not None:
            found[name] = levels
        update(done, len(photos))
    return found


def relative_turn(first: Preview, second: Preview) -> tuple[float, int]:
    """By how many degrees clockwise the second photo must be turned to be seen as the first is.

    Args:
        first: at one turn or more; two say all that eight would.
        second: at all turns.

    Returns:
        The degrees in [0, 360), and how many matches agree on them; 0 where it is not clear.
    """
    from tpsfm.matching.nearest import mutual_nearest

    first, second = ([level.unpacked() for level in levels] for levels in (first, second))
    matches: list[list[np.ndarray]] = [[] for _ in range(TURNS)]  # x and y in the first and second photo
    for i in range(min(len(first), 2)):
        for turn in range(TURNS):
            one, other = first[i], second[(i + turn) % TURNS]
            index, _ = mutual_nearest(one.descriptors, other.descriptors, ratio=RATIO)
            matches[turn].append(np.hstack([one.keypoints[index[:, 0]], other.keypoints[index[:, 1]]]))
    votes = np.array([sum(map(len, found)) for found in matches])
    best = int(votes.argmax())
    apart = np.minimum((np.arange(TURNS) - best) % TURNS, (best - np.arange(TURNS)) % TURNS) > 1
    if votes[best] < max(MIN_MATCHES * len(matches[best]) / 2, MIN_MATCH_RATIO * votes[apart].max()):
        return 0.0, 0
    in_first, in_second = np.hsplit(np.concatenate(matches[best]), 2)
    error = MAX_ERROR * max(first[0].image_size)
    similarity, inliers = cv2.estimateAffinePartial2D(in_second.copy(), in_first.copy(), ransacReprojThreshold=error)
    if similarity is None or inliers.sum() < MIN_INLIERS:
        return 0.0, 0
    degrees = float(np.degrees(np.arctan2(similarity[1, 0], similarity[0, 0])))
    off = abs((degrees - best * 360 / TURNS + 180) % 360 - 180)
    return (degrees % 360, int(inliers.sum())) if off < 360 / TURNS else (0.0, 0)


def likely_pairs(previews: Mapping[str, Preview], vocabulary: Vocabulary | None) -> list[Pair]:
    """Each photo with the `NEIGHBOURS` that look the most like it, however they are turned.

    Args:
        vocabulary: the extractor's own; None trains one.
    """
    names = sorted(previews)
    if len(names) <= NEIGHBOURS + 1:
        return list(combinations(names, 2))
    vectors = _global_descriptors([previews[name] for name in names], vocabulary or _trained(previews))
    pairs = set()
    for start in range(0, len(names), ROWS):
        some = vectors[start : start + ROWS, 0]
        similarity = np.max([some @ vectors[:, turn].T for turn in range(TURNS)], axis=0)
        similarity[np.arange(len(some)), np.arange(start, start + len(some))] = -np.inf
        nearest = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        pairs |= {(names[start + i], names[j]) for i, row in enumerate(nearest) for j in row}
    return canonical(pairs)


def sample_pairs(previews: Mapping[str, Preview], vocabulary: Vocabulary | None) -> list[Pair]:
    """Each photo that is seen at all turns with the `SAMPLE_NEIGHBOURS` that look the most like it at any of them."""
    names = sorted(previews)
    turning = [name for name in names if len(previews[name]) == TURNS]
    if not turning:
        return []
    upright_, all_turns = (
        _global_descriptors([previews[name][:turns] for name in some], vocabulary or _trained(previews))
        for some, turns in ((names, 1), (turning, TURNS))
    )
    pairs = []
    for name, vectors in zip(turning, all_turns, strict=True):
        similarity = (vectors @ upright_[:, 0].T).max(0)
        similarity[names.index(name)] = -np.inf
        pairs += [(name, names[i]) for i in np.argsort(-similarity)[: min(SAMPLE_NEIGHBOURS, len(names) - 1)]]
    return pairs


def _global_descriptors(previews: Sequence[Preview], vocabulary: Vocabulary) -> np.ndarray:
    """Global descriptors float32 [N, turns, G] of previews of as many turns."""
    return np.array([[vocabulary.describe(level.unpacked().descriptors) for level in levels] for levels in previews])


def _trained(previews: Mapping[str, Preview]) -> Vocabulary:
    from tpsfm.retrieval.vlad import train_vocabulary

    return train_vocabulary(np.concatenate([levels[0].unpacked().descriptors for levels in previews.values()]))

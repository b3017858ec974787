"""Small copies of photos, turned by eighths: how two photos are turned against each other, and which look alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor, Features
from tpsfm.io.journal import Journal
from tpsfm.io.workspace import digest
from tpsfm.pairs.selection import Pair, canonical
from tpsfm.photos import Photo, upright
from tpsfm.retrieval.index import Index

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


@dataclass(frozen=True)
class Previews:
    """Makes previews, and keeps them until the folder is removed: a killed run goes on from them.

    Attributes:
        extractor: any.
        folder: where they are kept.
    """

    extractor: Extractor
    folder: Path

    def of(
        self, photos: Mapping[str, Photo], side: int, turns: Mapping[str, int], update: Callable[[int, int], None]
    ) -> dict[str, Preview]:
        """`preview` of all photos that can be read, by name.

        Args:
            photos: their records.
            side: pixels of the copies' longer side.
            turns: of each.
            update: called with (photos done, of how many).
        """

        def small(photo: Photo, name: str) -> list[np.ndarray]:
            with suppress(TpsfmError):
                levels = preview(self.extractor, photo, side, turns[name])
                return [a for f in levels for a in (f.keypoints, f.scores, f.descriptors, np.array(f.image_size))]
            return []

        found: dict[str, Preview] = {}
        jobs = ((name, (photo, name)) for name, photo in photos.items())
        kept = self.journal(photos, side, turns).in_parallel(small, jobs, self.extractor.at_once)
        for done, (name, arrays) in enumerate(kept, 1):
            if arrays:
                levels = zip(*(arrays[i::4] for i in range(4)), strict=True)
                found[name] = [
                    Features(xy, scores, d, (int(width), int(height))) for xy, scores, d, (width, height) in levels
                ]
            update(done, len(photos))
        return found

    def journal(self, photos: Mapping[str, Photo], side: int, turns: Mapping[str, int]) -> Journal:
        """Keeps what depends on the previews of these photos."""
        contents = [(name, photo.content, turns[name]) for name, photo in photos.items()]
        return Journal(self.folder / str(side), digest([self.extractor.fingerprint, contents]))


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
    upright_, by_turn = _described(previews, vocabulary, TURNS)
    found = [index.search(upright_, NEIGHBOURS + 1) for index in by_turn]
    rows, similarity = (np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True))
    return canonical(
        (name, names[other])
        for i, name in enumerate(names)
        for other in _most_alike(rows[i], similarity[i], i, NEIGHBOURS)
    )


def sample_pairs(previews: Mapping[str, Preview], vocabulary: Vocabulary | None) -> list[Pair]:
    """Each photo that is seen at all turns with the `SAMPLE_NEIGHBOURS` that look the most like it at any of them."""
    names = sorted(previews)
    turning = [i for i, name in enumerate(names) if len(previews[name]) == TURNS]
    if not turning:
        return []
    vocabulary = vocabulary or _trained(previews)
    _, (index,) = _described(previews, vocabulary, 1)
    pairs = []
    for i in turning:
        vectors = np.stack([vocabulary.describe(level.unpacked().descriptors) for level in previews[names[i]]])
        rows, similarity = (found.ravel() for found in index.search(vectors, SAMPLE_NEIGHBOURS + 1))
        pairs += [(names[i], names[other]) for other in _most_alike(rows, similarity, i, SAMPLE_NEIGHBOURS)]
    return pairs


def _described(
    previews: Mapping[str, Preview], vocabulary: Vocabulary | None, turns: int
) -> tuple[np.ndarray, list[Index]]:
    """Global descriptors of photos in the order of their names: float32 [N, G] as they are, and an index a turn."""
    vocabulary = vocabulary or _trained(previews)
    upright_, by_turn = [], [Index() for _ in range(turns)]
    for name in sorted(previews):
        vectors = [vocabulary.describe(level.unpacked().descriptors) for level in previews[name][:turns]]
        upright_.append(vectors[0])
        for index, vector in zip(by_turn, vectors, strict=True):
            index.add([name], vector[None])
    return np.stack(upright_), by_turn


def _most_alike(rows: np.ndarray, similarity: np.ndarray, own: int, count: int) -> list[int]:
    """The `count` photos most alike of those found at several turns, without the photo itself."""
    others = dict.fromkeys(rows[np.argsort(-similarity, kind="stable")].tolist())
    others.pop(own, None)
    return list(others)[:count]


def _trained(previews: Mapping[str, Preview]) -> Vocabulary:
    from tpsfm.retrieval.vlad import train_vocabulary

    return train_vocabulary(np.concatenate([levels[0].unpacked().descriptors for levels in previews.values()]))

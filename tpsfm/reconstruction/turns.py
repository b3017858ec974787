"""Relative 90° rotations between photos, found from small copies of them.

Learned features match photos that are turned by up to some 45°. Strips that a drone flies there and back, and phones
held upright and across without saying so in the EXIF, are turned by more: features are then extracted from each photo
turned the way that it agrees with the others, and their keypoints given in the photo as it is.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs.selection import Pair, canonical
from tpsfm.photos import PhotoCatalog, turned
from tpsfm.progress import Progress
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.stage import Done, Stage, option

if TYPE_CHECKING:
    from tpr.vlad import Vocabulary

LONGER_SIDE = 480  # pixels of the small copies
KEYPOINTS = 256  # of each, the strongest
NEIGHBOURS = 20  # with which each photo is compared
RATIO = 0.9
MIN_MATCHES = 20  # over all four turns of both photos
MIN_MATCH_RATIO = 1.5  # of the best turn to the second best
ROWS = 1024  # photos that are compared with all others at a time

Preview = Sequence[np.ndarray]

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Turns(Stage):
    """Finds by how many quarter turns each photo is to be turned to be seen as the others are.

    The manifest then holds them ("turns"), by name where it is not 0. `run` raises TpsfmError where the folder of
    photos is missing or holds none.
    """

    name: ClassVar[str] = "turns"
    title: ClassVar[str] = "turns"

    turned: bool = option(False, "The photos are turned against each other (drone strips, phones).")

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        if not self.turned:
            workspace.manifest.pop("turns", None)
            workspace.manifest["stages"].pop(self.name, None)
            return None
        extraction = Extraction.recorded(workspace)
        extractor = extraction.extractor()
        photos = {}
        with PhotoCatalog(Path(workspace.manifest["images"]), workspace.photos, extraction.masks) as catalog:
            for name in catalog.names:
                with suppress(TpsfmError):  # the extraction names those that can't be read
                    photos[name] = catalog[name]
        key = digest([extractor.fingerprint, sorted((name, photo.content) for name, photo in photos.items())])
        if "turns" in workspace.manifest and self._is_done(workspace, key, workspace.run):
            return None
        previews: dict[str, Preview] = {}
        with progress.bar(self.title, len(photos)) as update:
            for done, (name, photo) in enumerate(photos.items(), 1):
                with suppress(TpsfmError):
                    previews[name] = preview(extractor, photo.decode(), photo.orientation)
                update(done, len(photos))
        pairs = likely_pairs(previews, extractor.vocabulary)
        relative = {}
        with progress.bar("turned pairs", len(pairs)) as update:
            for done, pair in enumerate(pairs, 1):
                relative[pair] = relative_turn(*(previews[name] for name in pair))
                update(done, len(pairs))
        found = workspace.manifest["turns"] = agree(previews, relative)
        log.info("turns: %d of %d photos are turned", len(found), len(previews))
        return Done(key, len(pairs), counts={"turned": len(found)})


def preview(extractor: Extractor, image: np.ndarray, orientation: int) -> Preview:
    """Descriptors float16 [N_q, D] of a small copy of an image, turned clockwise by q = 0 to 3 quarters.

    Args:
        extractor: any.
        image: uint8 [H, W, 3] or [H, W].
        orientation: its EXIF orientation.
    """
    from tpsfm.features.scaling import shrunk
    from tpsfm.features.upright import upright_features

    small = shrunk(image, LONGER_SIDE)
    found = (upright_features(extractor, small, None, turned(orientation, quarters)) for quarters in range(4))
    return [features.descriptors[:KEYPOINTS].astype(np.float16) for features in found]


def relative_turn(first: Preview, second: Preview) -> tuple[int, int]:
    """By how many quarters clockwise the second photo must be turned to be seen as the first is.

    Returns:
        The quarters, 0 to 3, and how many more matches there are than at the second best; 0 where it is not clear.
    """
    from tpsfm.matching.nearest import mutual_nearest

    first, second = ([level.astype(np.float32) for level in preview] for preview in (first, second))
    votes = np.zeros(4, int)
    for i in range(4):
        for quarters in range(4):
            votes[quarters] += len(mutual_nearest(first[i], second[(i + quarters) % 4], ratio=RATIO)[0])
    other, most = np.sort(votes)[2:].tolist()
    return int(votes.argmax()), most - other if most >= max(MIN_MATCHES, MIN_MATCH_RATIO * other) else 0


def agree(names: Iterable[str], relative: Mapping[Pair, tuple[int, int]]) -> dict[str, int]:
    """Turns of photos that agree with those of pairs, the surest pairs first; most photos stay as they are.

    Args:
        names: of the photos.
        relative: as `relative_turn` gives it, by pair.

    Returns:
        Quarters clockwise, 1 to 3, by the names of those photos that are to be turned.
    """
    turn = dict.fromkeys(names, 0)
    group = {name: [name] for name in turn}
    for (first, second), (quarters, margin) in sorted(relative.items(), key=lambda item: (-item[1][1], item[0])):
        if not margin or group[first] is group[second]:
            continue
        shift = turn[first] + quarters - turn[second]
        for name in group[second]:
            turn[name] = (turn[name] + shift) % 4
            group[first].append(name)
            group[name] = group[first]
    for members in {id(members): members for members in group.values()}.values():
        usual = Counter(turn[name] for name in members).most_common(1)[0][0]
        for name in members:
            turn[name] = (turn[name] - usual) % 4
    return {name: quarters for name, quarters in turn.items() if quarters}


def likely_pairs(previews: Mapping[str, Preview], vocabulary: Vocabulary | None) -> list[Pair]:
    """Each photo with the `NEIGHBOURS` that look the most like it, however they are turned.

    Args:
        vocabulary: the extractor's own; None trains one.
    """
    names = sorted(previews)
    if len(names) <= NEIGHBOURS + 1:
        return list(combinations(names, 2))
    if vocabulary is None:
        from tpsfm.retrieval.vlad import train_vocabulary

        vocabulary = train_vocabulary(np.concatenate([levels[0] for levels in previews.values()], dtype="f4"))
    vectors = np.array([[vocabulary.describe(level.astype(np.float32)) for level in previews[name]] for name in names])
    pairs = set()
    for start in range(0, len(names), ROWS):
        some = vectors[start : start + ROWS, 0]
        similarity = np.max([some @ vectors[:, quarters].T for quarters in range(4)], axis=0)
        similarity[np.arange(len(some)), np.arange(start, start + len(some))] = -np.inf
        nearest = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        pairs |= {(names[start + i], names[j]) for i, row in enumerate(nearest) for j in row}
    return canonical(pairs)

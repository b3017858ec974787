"""Rotations of photos against each other about the line of sight, found from small copies of them.

Learned features match photos that are turned by some 20°; at 30° a third of the matches is left, at 45° a tenth.
Strips that a drone flies there and back and across, kites, and phones held upright and across without saying so in the
EXIF are turned by more: features are then extracted from each photo turned the way that it agrees with the others, and
their keypoints given in the photo as it is.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs.selection import Pair, components
from tpsfm.photos import Photo
from tpsfm.progress import Progress
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.previews import LONGER_SIDE, TURNS, Previews, likely_pairs, relative_turn, sample_pairs
from tpsfm.reconstruction.stage import Done, Stage, option, photo_records

STEP = 15  # degrees to which turns are rounded
TOLERANCE = 12  # degrees that a photo may keep to be turned by quarters, which leave every pixel as it is
SAMPLE_EVERY = 8  # photos, one is looked at from all sides before all are,
SAMPLE_MOST = 32  # but not more than that many
SAMPLE_SIDE = 256  # pixels of the small copies of the sample
SAMPLE_TURN = 25  # degrees between two photos of the sample, from which on all photos are looked at
CONNECTED = 30  # verified matches that connect two photos

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Turns(Stage):
    """Finds by how many degrees each photo is to be turned to be seen as the others are.

    The manifest then holds them ("turns"), by name where it is not 0. Unless an option says otherwise, a sample of the
    photos is looked at first, and all of them only where two of the sample are turned against each other. Features
    that bear rotation need no turns. `run` raises TpsfmError where the folder of photos is missing or holds none.
    """

    name: ClassVar[str] = "turns"
    title: ClassVar[str] = "turns"

    turned: bool | None = option(
        None, "Look whether photos are turned against each other: in all, in none; a sample first if left out."
    )

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        extraction = Extraction.recorded(workspace)
        if self.turned is False or (self.turned is None and extraction.extractor_class.rotation_invariant):
            workspace.manifest.pop("turns", None)
            workspace.manifest["stages"].pop(self.name, None)
            return None
        previews = _previews(workspace)
        photos = {}
        with extraction.catalog(workspace) as catalog:
            for name in catalog.names:
                with suppress(TpsfmError):  # the extraction names those that can't be read
                    photos[name] = catalog[name]
        key = digest([previews.extractor.fingerprint, sorted((name, photo.digest) for name, photo in photos.items())])
        is_enough = self.looked_at_all(workspace) or not self.turned
        if "turns" in workspace.manifest and self._is_done(workspace, key, workspace.run) and is_enough:
            return None
        self._cluster(progress)  # local workers start meanwhile
        every = bool(self.turned or workspace.manifest.get("turns"))
        if not every:
            names = sorted(photos)
            every_nth = max(SAMPLE_EVERY, -(-len(names) // SAMPLE_MOST))
            sample = names[min(every_nth, len(names)) // 2 :: every_nth]
            every = self._is_any_turned(previews, photos, sample, progress)
        relative = self._relative_turns(previews, photos, progress) if every else {}
        shutil.rmtree(previews.folder, ignore_errors=True)
        found = workspace.manifest["turns"] = agree(photos, relative)
        if every:
            log.info("turns: %d of %d photos are turned", len(found), len(photos))
        return Done(key, len(photos), counts={"turned": len(found), "all": every})

    def looked_at_all(self, workspace: Workspace) -> bool:
        """Whether all photos were looked at, not a sample alone."""
        return workspace.manifest["stages"].get(self.name, {}).get("counts", {}).get("all", False)

    def may_have_missed(self, workspace: Workspace, progress: Progress | None = None) -> bool:
        """Whether photos that the verified pairs leave apart from the others are turned, where a sample wasn't.

        Some of each such part are looked at from all sides.
        """
        from tpsfm.colmap import PairTable

        if self.turned is not None or self.name not in workspace.manifest["stages"] or self.looked_at_all(workspace):
            return False
        with PairTable(workspace.database) as table:
            _, inliers = table.counts()
        connected = [pair for pair, count in inliers.items() if count >= CONNECTED]
        parts = components(workspace.manifest["photos"], connected)
        apart = sorted(name for part in parts[1:] for name in sorted(part)[::SAMPLE_EVERY])
        counts = workspace.manifest["stages"][self.name]["counts"]
        if not apart or counts.get("apart") == apart:
            return False
        log.info("turns: the verified pairs leave the photos in %d parts; looking at %d photos", len(parts), len(apart))
        photos = photo_records(workspace, workspace.manifest["photos"])
        previews = _previews(workspace)
        if self._is_any_turned(previews, photos, apart, progress or Progress()):
            return True
        shutil.rmtree(previews.folder, ignore_errors=True)
        counts["apart"] = apart
        workspace.save()
        return False

    def of_all(self) -> Turns:
        """The stage that looks at all photos."""
        return replace(self, turned=True)

    def _is_any_turned(
        self, previews: Previews, photos: Mapping[str, Photo], sample: Iterable[str], progress: Progress
    ) -> bool:
        """Whether any photo of a sample is turned against one that looks like it."""
        turns = dict.fromkeys(photos, 1) | dict.fromkeys(sample, TURNS)
        with progress.bar(self.title, len(photos)) as update:
            copies = previews.of(photos, SAMPLE_SIDE, turns, update)
        for one, other in sample_pairs(copies, previews.extractor.vocabulary):
            degrees, margin = relative_turn(copies[other][:1], copies[one])
            if margin and abs((degrees + 180) % 360 - 180) > SAMPLE_TURN:
                log.info("turns: %s and %s are turned by %.0f°; looking at all photos", other, one, degrees)
                return True
        return False

    def _relative_turns(
        self, previews: Previews, photos: Mapping[str, Photo], progress: Progress
    ) -> dict[Pair, tuple[float, int]]:
        """`relative_turn` of all photos with those that look like them, by pair."""
        turns = dict.fromkeys(photos, TURNS)
        with progress.bar(self.title, len(photos)) as update:
            copies = previews.of(photos, LONGER_SIDE, turns, update)
        pairs = likely_pairs(copies, previews.extractor.vocabulary)

        def turn(first: str, second: str) -> list[np.ndarray]:
            return [np.array(relative_turn(copies[first], copies[second]))]

        relative = {}
        with progress.bar("turned pairs", len(pairs)) as update:
            found = previews.journal(photos, LONGER_SIDE, turns).in_parallel(turn, ((pair, pair) for pair in pairs))
            for done, (pair, [(degrees, inliers)]) in enumerate(found, 1):
                relative[pair] = float(degrees), int(inliers)
                update(done, len(pairs))
        return relative


def _previews(workspace: Workspace) -> Previews:
    return Previews(Extraction.recorded(workspace).preview_extractor(), workspace.root / "turning")


def agree(names: Iterable[str], relative: Mapping[Pair, tuple[float, int]]) -> dict[str, int]:
    """Turns of photos that agree with those of pairs, the surest pairs first; most photos stay as they are.

    Args:
        names: of the photos.
        relative: as `relative_turn` gives it, by pair.

    Returns:
        Degrees clockwise, a multiple of `STEP` in [0, 360), by the names of those photos that are to be turned.
    """
    turn = dict.fromkeys(names, 0.0)
    group = {name: [name] for name in turn}
    for (first, second), (degrees, inliers) in sorted(relative.items(), key=lambda item: (-item[1][1], item[0])):
        if not inliers or group[first] is group[second]:
            continue
        shift = turn[first] + degrees - turn[second]
        for name in group[second]:
            turn[name] = (turn[name] + shift) % 360
            group[first].append(name)
            group[name] = group[first]
    found: dict[str, int] = {}
    for members in {id(members): members for members in group.values()}.values():
        steps = {name: round(turn[name] / STEP) % (360 // STEP) for name in members}
        usual = Counter(steps.values()).most_common(1)[0][0]
        stay = np.median([(turn[name] - usual * STEP + 180) % 360 - 180 for name in members if steps[name] == usual])
        found |= {name: rounded(turn[name] - usual * STEP - float(stay)) for name in members}
    return {name: found[name] for name in turn if found[name]}


def rounded(degrees: float) -> int:
    """To quarters where they are near, else to steps; in [0, 360)."""
    quarters = 90 * round(degrees / 90)
    return (quarters if abs(degrees - quarters) <= TOLERANCE else STEP * round(degrees / STEP)) % 360

"""Which photos are matched with each other."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features.store import FeatureStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs import selection
from tpsfm.photos import file_digest
from tpsfm.progress import Progress
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.stage import Done, Photos, Stage, option, photo_keys, photo_records, problem_of
from tpsfm.retrieval import global_descriptor_class

EXHAUSTIVE_UP_TO = 60  # photos that 'auto' still matches all to all
LOOP_NEIGHBOURS = 5  # that each photo of a sequence chooses beyond the overlap
_METHODS_OF = {  # by the options that are for these alone
    "neighbours": ("retrieval", "gps"),
    "overlap": ("sequential",),
    "quadratic": ("sequential",),
    "loop_closure": ("sequential",),
    "pairs_file": ("file",),
}

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Pairing(Stage):
    """Chooses the pairs and writes them to pairs.txt.

    `run` raises TpsfmError where the pairs file is missing or has a bad row, or too few photos have a GPS position.
    """

    name: ClassVar[str] = "pairs"
    title: ClassVar[str] = "pairs"

    pairs: str = option(
        "auto",
        f"Which photos are matched; auto: the file, all up to {EXHAUSTIVE_UP_TO}, or retrieval; a video's in order.",
        choices=("auto", "exhaustive", "sequential", "retrieval", "gps", "file"),
    )
    neighbours: int = option(20, "For retrieval and gps.", least=1)
    overlap: int = option(10, "For sequential.", least=1)
    quadratic: bool = option(True, "For sequential: also 2, 4, 8 ... photos on.")
    pairs_file: Path | None = option(None, "The pairs: two names a line.", path=True)
    loop_closure: bool | None = option(
        None, "For sequential: also pairs by retrieval, of photos far apart in it; left out, for a video."
    )
    global_descriptor: str = option("vlad", "For retrieval: vlad or a plug-in's name.")

    def problems(self, photos: Photos) -> Iterator[str]:
        yield from problem_of(global_descriptor_class, self.global_descriptor)
        if self._method(0) == "file":
            yield from problem_of(self._read_file, photos())

    def remarks(self, photos: Photos) -> Iterator[str]:
        given = [name for name in _METHODS_OF if self.is_given(name)]
        method = self._method(len(photos())) if given else ""
        for name in given:
            if method not in _METHODS_OF[name]:
                option, value = name.replace("_", "-"), getattr(self, name)
                flag = f"--no-{option}" if value is False else f"--{option} {value}"
                takes = " or ".join(f"--pairs {method}" for method in _METHODS_OF[name])
                yield f"{flag} has no effect with the pairs '{method}'; it is for {takes}"

    def _method(self, photos: int) -> str:
        """How the pairs of so many photos are chosen."""
        if self.pairs != "auto":
            return self.pairs
        if self.pairs_file is not None:
            return "file"
        return "exhaustive" if photos <= EXHAUSTIVE_UP_TO else "retrieval"

    def _read_file(self, names: Iterable[str]) -> list[selection.Pair]:
        if self.pairs_file is None:
            raise TpsfmError("pairs from a file need the file; give --pairs-file")
        return selection.read_pairs(self.pairs_file, names)

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        photos = photo_keys(workspace)
        names, method = sorted(photos), self._method(len(photos))
        key = digest([sorted(photos.items()), method, self._dependencies(method)])
        if self._is_done(workspace, key, workspace.pairs):
            return None
        if method == "exhaustive":
            pairs = selection.exhaustive(names)
        elif method == "sequential":
            pairs = selection.sequential(names, self.overlap, self.quadratic)
            if self.loop_closure:
                far = self._retrieved(workspace, names, progress, LOOP_NEIGHBOURS, apart=self.overlap)
                pairs = selection.canonical([*pairs, *far])
        elif method == "gps":
            pairs = self._by_gps(workspace, names, progress)
        elif method == "retrieval":
            pairs = self._retrieved(workspace, names, progress, self.neighbours)
        else:
            pairs = self._read_file(names)
        selection.write_pairs(workspace.pairs, pairs)
        return Done(key, len(pairs), counts={"pairs": len(pairs), "method": method})

    def _dependencies(self, method: str) -> dict[str, object]:
        """What the pairs depend on beside the photos."""
        if method == "sequential":
            sequence: dict[str, object] = {"overlap": self.overlap, "quadratic": self.quadratic}
            return {**sequence, "loops": LOOP_NEIGHBOURS, **self._descriptor()} if self.loop_closure else sequence
        if method in ("gps", "retrieval"):
            return {"neighbours": self.neighbours, "links": selection.LINKS, **self._descriptor()}
        if method == "file":
            if self.pairs_file is None:
                raise TpsfmError("pairs from a file need the file; give --pairs-file")
            return {"digest": file_digest(self.pairs_file)}
        return {}

    def _by_gps(self, workspace: Workspace, names: list[str], progress: Progress) -> list[selection.Pair]:
        """Each photo with its nearest ones, and with those that look like it where its position is not known.

        Nor is it where more photos than its neighbours have the very same one.
        """
        known = [photo.gps or (np.nan,) * 3 for photo in photo_records(workspace, names).values()]
        positions = selection.gps_to_metres(*np.array(known, float).T)
        same = Counter(map(tuple, positions))
        lost = {
            name
            for name, place in zip(names, positions, strict=True)
            if not np.isfinite(place).all() or same[tuple(place)] > self.neighbours + 1
        }
        pairs = selection.from_gps(names, positions, self.neighbours)
        if not lost:
            return pairs
        log.warning("%d of %d photos have no GPS position of their own: pairs by their looks", len(lost), len(names))
        retrieved = self._retrieved(workspace, names, progress, self.neighbours)
        by_gps = (pair for pair in pairs if not lost & set(pair))
        return selection.canonical([*by_gps, *(pair for pair in retrieved if lost & set(pair))])

    def _descriptor(self) -> dict[str, object]:
        other = {} if self.global_descriptor == "vlad" else {"global_descriptor": self.global_descriptor}
        return {"seed": self.seed, **other}

    def _retrieved(
        self, workspace: Workspace, names: list[str], progress: Progress, neighbours: int, apart: int = 0
    ) -> list[selection.Pair]:
        """Each photo with those of the most similar global descriptors, which are stored beside the features."""
        from tpsfm.retrieval.index import key_of_global

        with FeatureStore(workspace.features, "a") as store:
            extractor = Extraction.recorded(workspace).extractor()
            descriptor = global_descriptor_class(self.global_descriptor).create(extractor, names, store.read, self.seed)
            with progress.bar("retrieval", len(names)) as update:
                for done, name in enumerate(names, 1):
                    key = key_of_global(store, name, descriptor)
                    if store.global_key(name) != key:
                        store.write_global(name, descriptor.describe(store.read(name)), key)
                    update(done, len(names))
            return selection.from_retrieval(names, store.read_global, neighbours, apart)

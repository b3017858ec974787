"""Matches of every chosen pair."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tpsfm.features import Extractor
from tpsfm.features.store import FeatureStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.matching import Matcher, matcher_class
from tpsfm.pairs.selection import Pair
from tpsfm.parallel import in_parallel
from tpsfm.progress import Progress
from tpsfm.reconstruction import remote
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.stage import Done, Photos, Stage, chosen_pairs, option, photo_keys, problem_of

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Matching(Stage):
    """Matches every pair of pairs.txt into database.db; pairs under the same key stay, those of other runs go.

    The key of a pair is a digest of its photos' keys, the matcher's fingerprint and how many keypoints screen it. `run`
    raises TpsfmError where the matcher or the device isn't there.
    """

    name: ClassVar[str] = "match"
    title: ClassVar[str] = "matches"

    matcher: str = option("nearest", "nearest (mutual nearest neighbours) or a plug-in's name.")
    min_similarity: float | None = option(None, "Least cosine similarity of a match.", least=-1.0, most=1.0)
    ratio: float | None = option(None, "Lowe's ratio; the features' own if left out, 1: off.", above=0.0, most=1.0)
    screening_keypoints: int = option(
        2048, "Keypoints matched first, the others where enough of those agree; 0: all at once.", least=0
    )
    match_memory: int = option(256, "MiB of features held at a time while pairs are matched.", least=1)

    def problems(self, photos: Photos) -> Iterator[str]:
        yield from problem_of(matcher_class, self.matcher)

    def create_matcher(self, extractor: type[Extractor]) -> Matcher:
        """The matcher that the options name, for the features of an extractor."""
        return matcher_class(self.matcher).create(extractor, self.device, self.min_similarity, self.ratio)

    def keys_of(self, pairs: Iterable[Pair], photos: Mapping[str, str], matcher: Matcher) -> dict[Pair, str]:
        """The keys of pairs of photos, whose keys are given by name."""
        method = [matcher.fingerprint, self.screening_keypoints]
        return {(a, b): digest([photos[a], photos[b], *method]) for a, b in pairs}

    def _work(self, workspace: Workspace, progress: Progress) -> Done:
        from tpsfm.colmap import PairTable
        from tpsfm.matching.batch import pair_features
        from tpsfm.matching.screening import match_screened

        photos, pairs = photo_keys(workspace), chosen_pairs(workspace)
        extractor = Extraction.recorded(workspace).extractor_class
        matcher, memory = self.create_matcher(extractor), self.match_memory << 20
        keys = self.keys_of(pairs, photos, matcher)
        with (
            FeatureStore(workspace.features) as features,
            PairTable(workspace.database, create=True) as table,
            progress.bar(self.title, len(pairs)) as update,
        ):
            todo = table.retain(photos, keys)
            if todo and (workspace.root / "matches.h5").exists():
                log.warning("matches are kept in database.db now and made again; matches.h5 is of no use any more")
            kept = len(pairs) - len(todo)
            update(kept, len(pairs))
            cluster = self._cluster(progress) if todo else None
            if cluster is None:
                pairs_of = pair_features(lambda name: matcher.prepare(features.read(name)), todo, memory)
                jobs = ((pair, (matcher, *both, self.screening_keypoints)) for pair, both in pairs_of)
                matched = in_parallel(match_screened, jobs)
            else:
                pairs_of = pair_features(features.read_packed, todo, memory)
                matched = cluster.run(remote.match, pairs_of, self, extractor, matcher.fingerprint)
            for done, (pair, matches) in enumerate(matched, kept + 1):
                table.write(pair, matches, keys[pair])
                update(done, len(pairs))
        return Done(digest(sorted(keys.values())), len(todo), kept, {"pairs": len(pairs)})

"""Photos of two places that look alike, which the map takes for one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping as Mapped
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_matrix

from tpsfm.alignment.confirmation import Confirmation, MapViews, confirm
from tpsfm.alignment.storage import read_patches_of
from tpsfm.alignment.views import PhotoView
from tpsfm.colmap import read_model, read_observations, read_point_ids
from tpsfm.device import choose_device
from tpsfm.io.journal import Journal
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs.selection import Pair
from tpsfm.photos import unchanged_photos
from tpsfm.progress import Progress
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.mapping import Mapping, dropped_pairs
from tpsfm.reconstruction.stage import Done, Stage, key_of, option
from tpsfm.reconstruction.verification import Verification

Conflict = tuple[str, str, int, int]
"""Two photos that show different places; how many points were looked for in both, and found."""

METHOD = 1  # counts up where the same map is judged otherwise
MIN_SHARED = 30  # points of a pair that is judged
PARTNERS = 10  # of a photo, from that with the most shared points to that with the fewest
CONFLICT = 0.3  # share of the points that are found, below which in both photos the pair shows two places

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Lookalikes(Stage):
    """Looks for the points of each photo in others that should see them, and names the pairs in which they are missing.

    Such photos may show two places that look alike. Only an aligned map has the patches that this needs. Where asked,
    the pairs between the places are left out and all is mapped again.
    """

    name: ClassVar[str] = "lookalikes"
    title: ClassVar[str] = "look-alikes"

    drop_lookalikes: bool = option(
        False, "Map again without pairs that may show two places that look alike; kept where fewer are left."
    )

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        key = self._key(workspace)
        if not workspace.patches.exists() or Alignment.name not in workspace.manifest["stages"]:
            workspace.start(self.name)
            return None
        if self._is_done(workspace, key, workspace.patches):
            return None
        rows = self._conflicts(workspace, progress)
        if rows:
            text = "%d pairs of photos share matches but not what stands about them, %s and %s first: the map may take"
            log.warning(f"{text} two places that look alike for one", len(rows), *rows[0][:2])
        before = len(rows)
        if rows and self.drop_lookalikes:
            rows = self._without(workspace, rows, progress)
        counts = {"conflicts": rows, "before": before, "dropped": len(dropped_pairs(workspace))}
        return Done(self._key(workspace), 1, counts=counts)

    def _key(self, workspace: Workspace) -> str:
        return digest([key_of(workspace, Mapping, "tpsfm map"), METHOD, self.drop_lookalikes])

    def _without(self, workspace: Workspace, rows: list[Conflict], progress: Progress) -> list[Conflict]:
        """Map again without the pairs of look-alikes, and as before where no fewer conflicts are left.

        Returns:
            The conflicts that are left.
        """
        verified = key_of(workspace, Verification, "tpsfm map")
        if workspace.manifest.get("dropped", {}).get("of") == verified:
            return rows  # tried already
        from tpsfm.colmap import PairTable

        with PairTable(workspace.database) as table:
            _, inliers = table.counts()
        pairs = between_places(inliers, [(first, second) for first, second, *_ in rows])
        fewer = rows
        for dropped in (pairs, []):
            workspace.manifest["dropped"] = {"of": verified, "pairs": [list(pair) for pair in dropped]}
            Mapping.recorded(workspace).run(workspace, progress)
            Alignment.recorded(workspace).run(workspace, progress)
            if dropped and workspace.manifest["stages"][Mapping.name]["counts"]["models"]:
                fewer = self._conflicts(workspace, progress)
                text = "mapped again without %d pairs: %d conflicts are left of %d, the %s map is kept"
                kept = "new" if len(fewer) < len(rows) else "former"
                log.warning(text, len(dropped), len(fewer), len(rows), kept)
                if len(fewer) < len(rows):
                    return fewer
        return rows

    def _conflicts(self, workspace: Workspace, progress: Progress) -> list[Conflict]:
        """The conflicts in all of the workspace's models."""
        judged: dict[Pair, tuple[Confirmation, Confirmation]] = {}
        for number in range(workspace.manifest["stages"][Mapping.name]["counts"]["models"]):
            judged |= self._judged(workspace.of_model(number), progress)
        return conflicts(judged)

    def _judged(self, workspace: Workspace, progress: Progress) -> dict[Pair, tuple[Confirmation, Confirmation]]:
        """The pairs of a model's photos that can be judged, and what was found in either photo."""
        folder = workspace.mapped  # whose frame the patches are in
        model, observations = read_model(folder), read_observations(folder)
        photos = unchanged_photos(workspace.photos, workspace.images)
        names = [name for name in model.images if name in photos]
        max_size, device = Extraction.recorded(workspace).max_size, choose_device(self.device)
        views = [
            PhotoView(model.cameras[pose.camera_id], pose, max_size, device, photos[name])
            for name, pose in ((name, model.images[name]) for name in names)
        ]
        sizes = [(view.camera.width * view.scale[0], view.camera.height * view.scale[1]) for view in views]
        seen = [np.unique(rows[rows >= 0]) for _, rows in (observations[name] for name in names)]
        patches = read_patches_of(workspace.patches, read_point_ids(folder))
        partners = _partners(seen, len(model.points))
        journal = Journal(workspace.root / "judging", digest([self._key(workspace), folder.name, *names]))
        with progress.bar(self.title, len(partners)) as update:
            scene = MapViews(model.points, patches, seen, views, sizes)
            found = confirm(scene, partners, update, journal.in_parallel)
        shutil.rmtree(journal.folder, ignore_errors=True)
        return {(names[a], names[b]): (one, found[b, a]) for (a, b), one in found.items() if a < b and (b, a) in found}


def conflicts(judged: Mapped[Pair, tuple[Confirmation, Confirmation]]) -> list[Conflict]:
    """Pairs in which either photo lacks what the other shows, the worst first."""
    rows = [
        (*pair, sum(one.tried for one in both), sum(one.found for one in both))
        for pair, both in judged.items()
        if all(one.found < CONFLICT * one.tried for one in both)
    ]
    return sorted(rows, key=lambda row: (row[3] / row[2], row[:2]))


def between_places(inliers: Mapped[Pair, int], conflicting: Sequence[Pair]) -> list[Pair]:
    """The verified pairs between photos of different places.

    Photos are put together by their pairs, those of the most inliers first, but never two groups that hold the photos
    of a conflict.

    Args:
        inliers: of the verified pairs.
        conflicting: pairs whose photos show different places.
    """
    group = {name: {name} for pair in [*inliers, *conflicting] for name in pair}
    apart: dict[str, set[str]] = {name: set() for name in group}
    for first, second in conflicting:
        apart[first].add(second)
        apart[second].add(first)
    for first, second in sorted(inliers, key=lambda pair: (-inliers[pair], pair)):
        one, other = group[first], group[second]
        if inliers[first, second] and one is not other and not any(apart[name] & other for name in one):
            one |= other
            group |= dict.fromkeys(other, one)
    return [
        pair
        for pair, count in sorted(inliers.items())
        if count and any(apart[name] & group[pair[1]] for name in group[pair[0]])
    ]


def _partners(seen: list[np.ndarray], points: int) -> dict[int, list[int]]:
    """By photo, those of which one chooses the other: up to `PARTNERS` of those that share `MIN_SHARED` points."""
    starts = np.cumsum([0, *(len(rows) for rows in seen)])
    columns = np.concatenate([np.empty(0, int), *seen])
    sees = csr_matrix((np.ones(len(columns), np.int32), columns, starts), shape=(len(seen), points))
    pairs = set()
    for photo in range(len(seen)):
        shared = (sees @ sees[photo].T).toarray()[:, 0]
        shared[photo] = 0
        ranked = np.argsort(-shared, kind="stable")[: (shared >= MIN_SHARED).sum()]
        if len(ranked):
            chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, PARTNERS).astype(int))]
            pairs |= {(photo, other) for other in chosen.tolist()} | {(other, photo) for other in chosen.tolist()}
    partners: dict[int, list[int]] = {}
    for photo, other in sorted(pairs):
        partners.setdefault(photo, []).append(other)
    return partners

"""Photos of two places that look alike, which the map takes for one."""

from __future__ import annotations

import logging
from collections.abc import Mapping as Mapped
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_matrix

from tpsfm.alignment.confirmation import Confirmation, MapViews, confirm
from tpsfm.alignment.storage import read_patches_of
from tpsfm.alignment.views import PhotoView
from tpsfm.colmap import read_model, read_observations, read_point_ids
from tpsfm.device import choose_device
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs.selection import Pair
from tpsfm.photos import unchanged_photos
from tpsfm.progress import Progress
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.stage import Done, Stage, key_of

METHOD = 1  # counts up where the same map is judged otherwise
MIN_SHARED = 30  # points of a pair that is judged
PARTNERS = 10  # of a photo, from that with the most shared points to that with the fewest
CONFLICT = 0.3  # share of the points that are found, below which in both photos the pair shows two places

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Lookalikes(Stage):
    """Looks for the points of each photo in others that should see them, and names the pairs in which they are missing.

    Such photos may show two places that look alike. Only an aligned map has the patches that this needs.
    """

    name: ClassVar[str] = "lookalikes"
    title: ClassVar[str] = "look-alikes"

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        key = digest([key_of(workspace, Mapping, "tpsfm map"), METHOD])
        if not workspace.patches.exists() or Alignment.name not in workspace.manifest["stages"]:
            workspace.start(self.name)
            return None
        if self._is_done(workspace, key, workspace.patches):
            return None
        judged: dict[Pair, tuple[Confirmation, Confirmation]] = {}
        for number in range(workspace.manifest["stages"][Mapping.name]["counts"]["models"]):
            judged |= self._judged(workspace.of_model(number), progress)
        rows = conflicts(judged)
        if rows:
            text = "%d pairs of photos share matches but not what stands about them, %s and %s first: the map may take"
            log.warning(f"{text} two places that look alike for one", len(rows), *rows[0][:2])
        return Done(key, 1, counts={"judged": len(judged), "conflicts": rows})

    def _judged(self, workspace: Workspace, progress: Progress) -> dict[Pair, tuple[Confirmation, Confirmation]]:
        """The pairs of a model's photos that can be judged, and what was found in either photo."""
        folder = workspace.mapped  # whose frame the patches are in
        model, observations = read_model(folder), read_observations(folder)
        photos = unchanged_photos(workspace.photos, Path(workspace.manifest["images"]))
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
        with progress.bar(self.title, len(partners)) as update:
            found = confirm(MapViews(model.points, patches, seen, views, sizes), partners, update)
        return {(names[a], names[b]): (one, found[b, a]) for (a, b), one in found.items() if a < b and (b, a) in found}


def conflicts(judged: Mapped[Pair, tuple[Confirmation, Confirmation]]) -> list[tuple[str, str, int, int]]:
    """Pairs in which either photo lacks what the other shows: names, points looked for and found; the worst first."""
    rows = [
        (*pair, sum(one.tried for one in both), sum(one.found for one in both))
        for pair, both in judged.items()
        if all(one.found < CONFLICT * one.tried for one in both)
    ]
    return sorted(rows, key=lambda row: (row[3] / row[2], row[:2]))


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

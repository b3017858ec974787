"""Which matches of each pair agree with one camera motion."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tpsfm.features.store import FeatureStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.matching.overlay import MatchedPair, Overlay, find_overlay
from tpsfm.photos import Photo
from tpsfm.progress import Progress
from tpsfm.reconstruction.matching import Matching
from tpsfm.reconstruction.stage import Done, Stage, key_of, option, photo_keys, photo_records

OVERLAY_PAIRS = 100  # in which something that lies over the photos is looked for
OVERLAY_MATCHES = 50  # of each at least

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Verification(Stage):
    """Writes cameras, images and keypoints to database.db and verifies its matches by two-view geometry.

    What lies in the same place of all photos is found first; its matches take no part. A pair whose matches, cameras
    and seed are the same stays. `run` raises TpsfmError where the camera model or mode is unknown, or photos of
    different sizes are to share a camera.
    """

    name: ClassVar[str] = "verify"
    title: ClassVar[str] = "geometry"

    camera_model: str = option("SIMPLE_RADIAL", "COLMAP's name of it.")
    camera_mode: str = option(
        "auto",
        "Which photos share a camera; auto: same device and size by EXIF.",
        choices=("auto", "single", "per-folder", "per-image"),
    )

    def _work(self, workspace: Workspace, progress: Progress) -> Done:
        from tpsfm import colmap

        photos = photo_keys(workspace)
        matched = key_of(workspace, Matching, "tpsfm match")
        images_key = digest([sorted(photos.items()), self.camera_model, self.camera_mode])
        records = photo_records(workspace, sorted(photos))
        cameras = colmap.group_cameras(records, self.camera_mode)
        with FeatureStore(workspace.features) as features:
            read = features.read_keypoints
            colmap.write_images(workspace.database, records, cameras, read, self.camera_model, images_key)
            overlay = _overlay(workspace, records, read)
            told = _told(overlay, records, read) if overlay else {}
        with progress.bar(self.title) as update:
            new, inliers = colmap.verify_matches(workspace.database, self.seed, self.threads, update, overlay)
        counts = {"pairs": sum(n > 0 for n in inliers.values()), "inliers": sum(inliers.values())}
        parts = [matched, sorted(photos.items()), self.camera_model, self.camera_mode, self.seed]
        key = digest([*parts, overlay.digest] if overlay else parts)
        return Done(key, new, len(inliers) - new, counts | {"cameras": len(set(cameras.values()))} | told)


def _overlay(workspace: Workspace, photos: Mapping[str, Photo], keypoints: Callable[[str], np.ndarray]) -> Overlay:
    """What lies over the photos, found in a sample of their matched pairs."""
    from tpsfm.colmap import PairTable

    with PairTable(workspace.database) as table:
        counts, _ = table.counts()
        pairs = [(a, b) for (a, b), n in counts.items() if n >= OVERLAY_MATCHES and photos[a].size == photos[b].size]
        some = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, OVERLAY_PAIRS).astype(int))] if pairs else []
        matches = {pair: table.read(pair).T for pair in some}
    return find_overlay(
        MatchedPair(photos[a].size, keypoints(a)[rows[0]], keypoints(b)[rows[1]]) for (a, b), rows in matches.items()
    )


def _told(
    overlay: Overlay, photos: Mapping[str, Photo], keypoints: Callable[[str], np.ndarray]
) -> dict[str, dict[str, int]]:
    """The figures of an overlay for the manifest, told in the log as well."""
    covered = [int(overlay.covers(photo.size, keypoints(name)).sum()) for name, photo in photos.items()]
    figures = {"photos": sum(count > 0 for count in covered), "keypoints": sum(covered)}
    text = "something lies over %d photos in the same place (a banner, a watermark, a bonnet?): %d keypoints left out"
    log.warning(text, *figures.values())
    return {"overlay": figures}

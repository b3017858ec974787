"""Exact keypoints: the observations of every point moved onto one patch of it, and the map adjusted to them."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tpsfm.alignment.storage import write_patches
from tpsfm.alignment.tracks import TrackAlignment, Tracks, align_tracks
from tpsfm.alignment.views import PhotoView
from tpsfm.colmap import read_model, read_observations, read_point_ids
from tpsfm.device import choose_device
from tpsfm.geometry import rescale_points
from tpsfm.io.atomic import replace_folder
from tpsfm.io.journal import Journal
from tpsfm.io.workspace import Workspace, digest
from tpsfm.photos import unchanged_photos
from tpsfm.progress import Progress
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.stage import Done, Stage, key_of, option
from tpsfm.reconstruction.verification import fixed_cameras

METHOD = 2  # counts up where the same map is aligned to another result
LEAST_SHARE = 0.3  # of a photo's observations that must be found; where fewer are, all others stay as detected

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Alignment(Stage):
    """Makes the keypoints of the map exact, adjusts the map to them and leaves it in `sparse`.

    The features stay as they were detected. Observations whose patch isn't found are dropped; photos that are gone, or
    changed since their features were extracted, keep theirs. The reference patches of the points are kept for
    localization.
    """

    name: ClassVar[str] = "align"
    title: ClassVar[str] = "alignment"

    align: bool = option(True, "Align the keypoints of each point by the pixels around them, and adjust the map.")

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        mapped = key_of(workspace, Mapping, "tpsfm map")
        if not workspace.manifest["stages"][Mapping.name]["counts"]["models"]:
            workspace.start(self.name)
            shutil.rmtree(workspace.sparse, ignore_errors=True)
            self._forget_patches(workspace)
            return None
        max_size = Extraction.recorded(workspace).max_size
        key = digest([mapped, self.align and [METHOD, max_size]])
        if self._is_done(workspace, key, workspace.sparse / "images.bin"):
            return None
        new = workspace.sparse.with_name("sparse.new")
        shutil.rmtree(new, ignore_errors=True)
        self._forget_patches(workspace)
        if not self.align:
            shutil.copytree(workspace.mapped, new)
            counts: dict[str, Any] = {}
        else:
            figures = []
            for number in range(workspace.manifest["stages"][Mapping.name]["counts"]["models"]):
                output = new / str(number) if number else new
                figures.append(self._align(workspace.of_model(number), output, max_size, key, progress))
            counts = figures[0]
        replace_folder(new, workspace.sparse)
        shutil.rmtree(workspace.root / "aligning", ignore_errors=True)
        return Done(key, 1, counts=counts)

    def _forget_patches(self, workspace: Workspace) -> None:
        for path in (workspace.patches, *workspace.root.glob("patches-[0-9]*.h5")):
            path.unlink(missing_ok=True)

    def _align(self, workspace: Workspace, output: Path, max_size: int, key: str, progress: Progress) -> dict[str, Any]:
        """Align the workspace's model in `mapped`; returns the figures for the manifest."""
        from tpsfm.colmap import Moved, refine_model

        folder = workspace.mapped
        model, observations = read_model(folder), read_observations(folder)
        photos = unchanged_photos(workspace.photos, workspace.images)
        device = choose_device(self.device)
        views = {
            name: PhotoView(model.cameras[pose.camera_id], pose, max_size, device, photos[name])
            for name, pose in model.images.items()
            if name in photos
        }
        if len(views) < len(model.images):
            log.warning(
                "%d of %d photos are gone or changed since their features were extracted: not aligned",
                len(model.images) - len(views),
                len(model.images),
            )
        seen = {name: np.flatnonzero(observations[name][1] >= 0) for name in views}
        tracks = _tracks(model.points, views, observations, seen)
        key = digest([key, *views])
        journal = Journal(workspace.root / "aligning" / output.name, key)
        with progress.bar(self.title, 2 * len(views)) as update:
            aligned, patches = align_tracks(tracks, list(views.values()), update, journal.in_parallel)
        moved = {
            name: Moved(*_moved(aligned, tracks.image == v, view, observations[name][0], seen[name]))
            for v, (name, view) in enumerate(views.items())
        }
        output.mkdir(parents=True, exist_ok=True)
        scale = 1 / min((view.scale.min() for view in views.values()), default=1.0)
        known = Mapping.recorded(workspace).poses is not None
        fixed = model.cameras if known else fixed_cameras(workspace)
        threads = self.adjusting_threads(len(model.images))
        checkpoint = journal.folder / key if self.may_differ(len(model.images)) else None
        refine_model(folder, output, moved, scale, fixed, not known, threads, checkpoint=checkpoint)
        write_patches(workspace.patches, patches, read_point_ids(folder))
        refined = read_model(output)
        before, after = int(model.track_lengths.sum()), int(refined.track_lengths.sum())
        return {
            "observations": before,
            "kept": after,
            "error_before": [float(model.errors.mean()), float(np.median(model.errors))],
            "error_after": [float(refined.errors.mean()), float(np.median(refined.errors))] if after else [0.0, 0.0],
        }


def _tracks(
    points: np.ndarray,
    views: dict[str, PhotoView],
    observations: dict[str, tuple[np.ndarray, np.ndarray]],
    seen: dict[str, np.ndarray],
) -> Tracks:
    """The observations of the photos that are there, in the pixels of the views."""
    none = np.empty(0, np.int64)
    rows = [observations[name][1][seen[name]] for name in views]
    pixels = [rescale_points(observations[name][0][seen[name]], view.scale) for name, view in views.items()]
    images = [np.full(len(row), v) for v, row in enumerate(rows)]
    return Tracks(
        points,
        np.concatenate([none, *rows]),
        np.concatenate([none, *images]),
        np.concatenate([none.reshape(0, 2).astype(float), *pixels]),
    )


def _moved(
    aligned: TrackAlignment, own: np.ndarray, view: PhotoView, keypoints: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All keypoints [K, 2] of a photo with those moved that were found, and the indices of those to drop."""
    found = aligned.found[own]
    result = keypoints.astype(np.float64)
    result[seen[found]] += aligned.displacement[own][found] / view.scale
    lost = aligned.tried[own] & ~found
    if found.sum() < LEAST_SHARE * len(found):
        lost[:] = False
    return result, seen[lost]

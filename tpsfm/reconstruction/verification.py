"""Which matches of each pair agree with one camera motion."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tpsfm.colmap import group_cameras, is_camera, read_cameras
from tpsfm.errors import TpsfmError
from tpsfm.features.store import FeatureStore
from tpsfm.geometry import CAMERA_MODELS, Camera
from tpsfm.io.workspace import Workspace, digest
from tpsfm.matching.overlay import MatchedPair, Overlay, find_overlay
from tpsfm.photos import Photo, file_digest
from tpsfm.progress import Progress
from tpsfm.reconstruction.matching import Matching
from tpsfm.reconstruction.stage import Done, Photos, Stage, key_of, option, photo_keys, photo_records, problem_of

OVERLAY_PAIRS = 100  # in which something that lies over the photos is looked for
OVERLAY_MATCHES = 50  # of each at least

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Verification(Stage):
    """Writes cameras, images and keypoints to database.db and verifies its matches by two-view geometry.

    What lies in the same place of all photos is found first; its matches take no part. A pair whose matches, cameras
    and seed are the same stays. Known cameras are written as they are, scaled and turned to the photos; the others get
    a model and the focal length that EXIF tells; each camera of a rig is one of its own. `run` raises TpsfmError where
    the camera model or mode is unknown, photos of different sizes are to share a camera, known cameras fit none, or a
    rig is that of other photos.
    """

    name: ClassVar[str] = "verify"
    title: ClassVar[str] = "geometry"

    camera_model: str = option("SIMPLE_RADIAL", "COLMAP's name of it, in any case.")
    camera_mode: str = option(
        "auto",
        "Which photos share a camera; auto: by EXIF, without it where the map says so; all frames of a video.",
        choices=("auto", "single", "per-folder", "per-image"),
    )

    cameras: str | None = option(
        None, "Known cameras: COLMAP's cameras.txt, a model's folder, or a row MODEL,W,H,params."
    )
    rig: Path | None = option(None, "Cameras mounted together, COLMAP's rig.json; calibrated or not.", path=True)
    fix_cameras: bool = option(False, "Hold the known cameras as they are, in place of starting from them.")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "camera_model", self.camera_model.upper())
        if self.cameras is not None and not is_camera(str(self.cameras)):
            object.__setattr__(self, "cameras", os.path.abspath(self.cameras))

    def problems(self, photos: Photos) -> Iterator[str]:
        if self.camera_model not in CAMERA_MODELS:
            yield f"no camera model '{self.camera_model}'; there are: {', '.join(CAMERA_MODELS)}"
        if self.fix_cameras and self.cameras is None:
            yield "--fix-cameras holds known cameras; give them with --cameras"
        given: dict[str, Camera] = {}
        if self.cameras is not None:
            try:
                given = self._given(photos())
            except TpsfmError as error:
                yield str(error)
        if self.rig is not None:
            from tpsfm import colmap

            yield from problem_of(colmap.check_rigs, photos(), self.rig)
        if self.camera_mode in ("single", "per-folder"):
            yield from problem_of(group_cameras, photos(), self.camera_mode, given)

    def remarks(self, photos: Photos) -> Iterator[str]:
        if self.cameras is None:
            return
        given = self._given(photos())
        without = [name for name in photos() if name not in given]
        if without:
            some = ", ".join(without[:3]) + (" ..." if len(without) > 3 else "")
            yield f"cameras: {len(given)} of {len(photos())} photos have a known one; without: {some}"
        elif self.is_given("camera_model"):
            yield f"--camera-model {self.camera_model} has no effect: each photo has a known camera"

    def _work(self, workspace: Workspace, progress: Progress) -> Done:
        from tpsfm import colmap

        photos = photo_keys(workspace)
        matched = key_of(workspace, Matching, "tpsfm match")
        records = photo_records(workspace, sorted(photos))
        given = self._given(records)
        known: list[dict[str, Any]] = [{name: asdict(camera) for name, camera in given.items()}] if given else []
        cameras = colmap.group_cameras(records, self.camera_mode, given)
        if self.rig is not None:
            colmap.check_rigs(records, self.rig)
            cameras = colmap.rig_cameras(cameras, colmap.read_rigs(self.rig))
            known.append({"rig": file_digest(self.rig)})
        images_key = digest([sorted(photos.items()), self.camera_model, self.camera_mode, *known])
        with FeatureStore(workspace.features) as features:
            read = features.read_keypoints
            colmap.write_images(
                workspace.database, records, cameras, read, self.camera_model, images_key, given, self.rig
            )
            overlay = _overlay(workspace, records, read)
            told = _told(overlay, records, read) if overlay else {}
        with progress.bar(self.title) as update:
            new, inliers = colmap.verify_matches(
                workspace.database, self.seed, self.threads, update, overlay, self._cluster(progress)
            )
        counts = {"pairs": sum(n > 0 for n in inliers.values()), "inliers": sum(inliers.values())}
        counts |= {"cameras": len(set(cameras.values())), "given": len({cameras[name] for name in given})}
        parts = [matched, sorted(photos.items()), self.camera_model, self.camera_mode, self.seed, *known]
        key = digest([*parts, overlay.digest] if overlay else parts)
        return Done(key, new, len(inliers) - new, counts | told)

    def _given(self, photos: Mapping[str, Photo]) -> dict[str, Camera]:
        """The known cameras of those photos that have one, by name."""
        return {} if self.cameras is None else read_cameras(self.cameras).of(photos)


def given_cameras(workspace: Workspace) -> range:
    """The ids of the known cameras in the database: they come first."""
    record = workspace.manifest["stages"].get(Verification.name, {})
    return range(1, 1 + record.get("counts", {}).get("given", 0))


def fixed_cameras(workspace: Workspace) -> range:
    """The ids of those cameras that are to stay as they are."""
    return given_cameras(workspace) if Verification.recorded(workspace).fix_cameras else range(0)


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

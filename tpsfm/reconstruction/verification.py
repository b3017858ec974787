"""Which matches of each pair agree with one camera motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tpsfm.features.store import FeatureStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.progress import Progress
from tpsfm.reconstruction.matching import Matching
from tpsfm.reconstruction.stage import Done, Stage, key_of, option, photo_keys, photo_records


@dataclass(frozen=True, kw_only=True)
class Verification(Stage):
    """Writes cameras, images and keypoints to database.db and verifies its matches by two-view geometry.

    A pair whose matches, cameras and seed are the same stays. `run` raises TpsfmError where the camera model or mode
    is unknown, or photos of different sizes are to share a camera.
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
        with progress.bar(self.title) as update:
            new, inliers = colmap.verify_matches(workspace.database, self.seed, self.threads, update)
        counts = {"pairs": sum(n > 0 for n in inliers.values()), "inliers": sum(inliers.values())}
        key = digest([matched, sorted(photos.items()), self.camera_model, self.camera_mode, self.seed])
        return Done(key, new, len(inliers) - new, counts | {"cameras": len(set(cameras.values()))})

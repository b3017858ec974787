"""Cameras and points from the verified matches."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections import abc
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tpsfm.errors import TpsfmError
from tpsfm.features.store import FeatureStore
from tpsfm.geometry import Model
from tpsfm.io.atomic import write_atomic
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs.selection import Pair
from tpsfm.photos import Photo
from tpsfm.progress import Progress
from tpsfm.reconstruction.stage import (
    Done,
    Photos,
    Stage,
    chosen_pairs,
    key_of,
    option,
    photo_keys,
    photo_records,
    problem_of,
)
from tpsfm.reconstruction.verification import Verification, fixed_cameras, given_cameras

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Mapping(Stage):
    """Reconstructs the map by COLMAP into `mapped`, the largest model first.

    With known poses there is no mapper: the matches that agree with them are triangulated, cameras and poses stay.

    Photos of one folder and size whose EXIF tells no camera share one where the map says so (`share_cameras`), unless
    the camera mode is another than 'auto'.

    It may end without any model, which the manifest's count of "models" tells.
    """

    name: ClassVar[str] = "map"
    title: ClassVar[str] = "map"

    mapper: str = option(
        "auto",
        "COLMAP's mapper; auto: incremental, global where that leaves parts; from 1,000 photos: parts, mapped at once.",
        choices=("auto", "incremental", "global", "parts"),
    )

    poses: Path | None = option(
        None, "Known poses, which stay: a COLMAP model's folder, transforms.json or a CSV file.", path=True
    )

    def problems(self, photos: Photos) -> abc.Iterator[str]:
        if self.poses is not None:
            yield from problem_of(self._known, photos(), self.poses)

    def remarks(self, photos: Photos) -> abc.Iterator[str]:
        if self.poses is not None and self.is_given("mapper"):
            yield f"--mapper {self.mapper} has no effect: the poses are known"

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        known = None if self.poses is None else self._known(photo_records(workspace, photo_keys(workspace)), self.poses)
        key, fixed = self.key(workspace, known), fixed_cameras(workspace)
        if self._is_done(workspace, key, workspace.mapped / "images.bin"):
            return None
        count = len(photo_keys(workspace))
        with progress.bar(self.title, count) as update, _database(workspace) as database:
            if known is not None:
                pairs = [pair for pair in chosen_pairs(workspace) if known.images.keys() >= set(pair)]
                triangulate(workspace, known, workspace.mapped, pairs, self.seed, self.threads)
                return Done(key, 1, counts={"models": 1})
            counts = self._map(workspace, database, key, lambda done: update(done, count), fixed)
        if not counts["models"]:  # an earlier run's
            shutil.rmtree(workspace.mapped, ignore_errors=True)
        return Done(key, 1, counts=counts)

    def _map(
        self,
        workspace: Workspace,
        database: Path,
        key: str,
        step: abc.Callable[[int], None],
        fixed: abc.Collection[int],
    ) -> dict[str, Any]:
        """Find the cameras by a part of the matches, then all points; the figures for the manifest."""
        from tpsfm import colmap

        may_differ = self.may_differ(len(photo_keys(workspace)))
        kept = workspace.root / "completing" / key  # whose record says that the cameras are found
        if may_differ and (kept / "record.json").exists():
            counts = json.loads((kept / "record.json").read_text())
        else:
            shutil.rmtree(kept.parent, ignore_errors=True)
            counts = self._find_cameras(workspace, database, key, step, fixed)
            if may_differ:
                kept.mkdir(parents=True)
                write_atomic(kept / "record.json", json.dumps(counts))
        models = [workspace.mapped / (str(number) if number else "") for number in range(counts["models"])]
        groups, given = self._groups(workspace), given_cameras(workspace)
        adjusting = self.adjusting_threads(len(photo_keys(workspace)))
        photos = {model: set(colmap.read_model(model).images) for model in models}
        for number, model in enumerate(models):
            elsewhere = set().union(*(names for other, names in photos.items() if other != model))
            checkpoint = kept / str(number) if may_differ else None
            added = colmap.complete_model(
                model, database, elsewhere, self.seed, self.threads, fixed, adjusting, checkpoint=checkpoint
            )
            photos[model] |= set(added)
            colmap.color_points(model, workspace.images, self.threads)
        for model in models if groups else []:
            colmap.center_cameras(model, groups, given, fixed)
        for folder in ("snapshots", "parts", "completing"):  # what a killed run would have gone on from
            shutil.rmtree(workspace.root / folder, ignore_errors=True)
        return counts

    def _find_cameras(
        self,
        workspace: Workspace,
        database: Path,
        key: str,
        step: abc.Callable[[int], None],
        fixed: abc.Collection[int],
    ) -> dict[str, Any]:
        """Map by a part of the matches; photos of one camera then share it."""
        from tpsfm import colmap
        from tpsfm.reconstruction.partitioned import is_worthwhile, map_in_parts

        rig, output = Verification.recorded(workspace).rig, workspace.mapped
        count = len(photo_keys(workspace))
        adjusting = self.adjusting_threads(count)
        snapshots = workspace.root / "snapshots" / key if self.may_differ(count) else None
        thin = workspace.root / "thin.db"
        colmap.thin_matches(database, thin, seed=self.seed)
        if rig is not None and colmap.needs_calibration(database, rig):  # by a map of single photos
            models, mapper = colmap.reconstruct(thin, output, "incremental", self.seed, self.threads, step, fixed)
            if not models:
                colmap.remove_database(thin)
                return {"models": 0, "mapper": mapper}
            colmap.apply_rigs(database, rig, output)
            colmap.thin_matches(database, thin, seed=self.seed)
        models, parts = [], self.mapper == "parts"
        if rig is None and (parts or (self.mapper == "auto" and is_worthwhile(colmap.verified_inliers(thin)))):
            mapper = "parts"
            models = map_in_parts(workspace, thin, key, self.seed, self.threads, adjusting, step, fixed, snapshots)
            if not models:
                log.warning("map: mapping all photos at once instead")
        if not models:
            mapper = "incremental" if parts else self.mapper
            models, mapper = colmap.reconstruct(
                thin, output, mapper, self.seed, self.threads, step, fixed, adjusting, snapshots
            )
        colmap.remove_database(thin)
        counts = {"models": len(models), "mapper": mapper}
        groups, given = self._groups(workspace), given_cameras(workspace)
        if groups:
            counts["shared"] = sum(colmap.share_cameras(model, groups, given, fixed) for model in models)
        return counts

    def key(self, workspace: Workspace, known: Model | None = None) -> str:
        """The key of a map of a workspace's verified matches, at known poses if there are any."""
        verified, groups = key_of(workspace, Verification, "tpsfm map"), self._groups(workspace)
        how = self.mapper if known is None else as_json(known)
        return digest([verified, how, self.seed, *groups, *fixed_cameras(workspace), *dropped_pairs(workspace)])

    def _groups(self, workspace: Workspace) -> list[list[str]]:
        """The names of photos that may turn out to be of one camera."""
        from tpsfm.colmap import possible_groups

        verification = Verification.recorded(workspace)
        if verification.camera_mode != "auto" or verification.rig is not None or self.poses is not None:
            return []
        return possible_groups(photo_records(workspace, photo_keys(workspace)))

    def _known(self, photos: abc.Mapping[str, Photo], source: Path) -> Model:
        """The known poses of the photos.

        Raises:
            TpsfmError: they can't be read, are those of other photos, or a photo is of another size than its camera.
        """
        from tpsfm.colmap import poses_of, read_poses

        known = poses_of(read_poses(source), photos, source)
        for name, pose in known.images.items():
            camera = known.cameras[pose.camera_id]
            if (camera.width, camera.height) != photos[name].size:
                size = f"{photos[name].width}x{photos[name].height}"
                raise TpsfmError(
                    f"{name} is {size} (EXIF orientation ignored), but its camera in '{source}' is"
                    f" {camera.width}x{camera.height}; give the photos that the poses are of"
                )
        return known


def triangulate(
    workspace: Workspace, known: Model, output: Path, pairs: abc.Iterable[Pair], seed: int, threads: int, **limits: Any
) -> None:
    """Make a map of a workspace's features and matches with known cameras and poses.

    Args:
        output: folder of the map.
        pairs: those whose matches are triangulated, of photos in `known`.
        seed, threads, limits: as for `colmap.triangulate`.
    """
    from tpsfm import colmap

    with FeatureStore(workspace.features) as features, colmap.PairTable(workspace.database) as table:
        matches = ((*pair, table.read(pair)) for pair in pairs)
        database = workspace.root / "known.db"
        colmap.triangulate(
            known,
            database,
            workspace.images,
            output,
            features.read_keypoints,
            matches,
            seed=seed,
            threads=threads,
            **limits,
        )
    colmap.remove_database(database)


def dropped_pairs(workspace: Workspace) -> list[list[str]]:
    """The verified pairs that take no part in the map: those of look-alikes, where that is asked for."""
    record, verified = workspace.manifest.get("dropped", {}), key_of(workspace, Verification, "tpsfm map")
    asked = workspace.manifest["options"].get("drop_lookalikes", False)
    return record["pairs"] if asked and record.get("of") == verified else []


@contextmanager
def _database(workspace: Workspace) -> abc.Iterator[Path]:
    """The database to map from: the workspace's, or a copy of it without the pairs that take no part."""
    from tpsfm.colmap import PairTable

    dropped = dropped_pairs(workspace)
    if not dropped:
        yield workspace.database
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "database.db"
        shutil.copy(workspace.database, copy)
        with PairTable(copy) as table:
            table.drop_geometries((first, second) for first, second in dropped)
        yield copy


def as_json(known: Model) -> list:
    """Cameras and poses as JSON."""
    poses = {
        name: [pose.camera_id, pose.rotation.tolist(), pose.translation.tolist()] for name, pose in known.images.items()
    }
    return [{str(key): [c.model, c.width, c.height, list(c.params)] for key, c in known.cameras.items()}, poses]

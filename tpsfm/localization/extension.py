"""Extend a map with localized photos, in a new workspace."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tpsfm import colmap
from tpsfm.errors import TpsfmError
from tpsfm.features.store import FeatureStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.localization.correspondences import MIN_SHARED
from tpsfm.localization.map import Map
from tpsfm.localization.result import Localization
from tpsfm.matching.batch import pair_features
from tpsfm.pairs.selection import Pair, canonical, from_covisibility
from tpsfm.parallel import in_parallel
from tpsfm.progress import Progress
from tpsfm.reconstruction.opening import image_folder
from tpsfm.reconstruction.report import write_results
from tpsfm.reconstruction.verification import fixed_cameras
from tpsfm.reconstruction.world import FILE as GEOREFERENCE

NEIGHBOURS = 20  # new photos with which each new photo is matched, those that share most points with it


class Extension:
    """The locked workspace of an extended map; `open` it before photos are localized, `build` it once they are.

    Its `images` folder has links to the map's photos and, below a folder "added", to the new ones. The old workspace is
    only read.

    Attributes:
        map: the map that is extended.
        workspace: the new one.
    """

    def __init__(self, map: Map, workspace: Workspace) -> None:
        self.map, self.workspace = map, workspace
        self._built = False

    @classmethod
    @contextmanager
    def open(cls, map: Map, out: Path) -> Iterator[Extension]:
        """Make and lock the new workspace; one that is not built is removed at the end.

        Args:
            map: the map to extend.
            out: the new workspace; an earlier extension there is replaced.

        Raises:
            TpsfmError: `out` is the map itself, holds something else or is in use by another process, or the map's
                photos or database are gone.
        """
        old = map.workspace
        if not old.database.is_file():
            raise TpsfmError(f"{old.root}: its database.db is gone, the map can't be extended; run 'tpsfm map'")
        if old.manifest["options"].get("poses"):
            raise TpsfmError(f"{old.root}: a map of known poses can't be extended; give --poses the new ones as well")
        image_folder(old)
        if out.exists():
            if out.resolve() == old.root.resolve():
                raise TpsfmError(f"{out} is the map itself; name another folder with --out")
            out = out.resolve()
            earlier = Workspace.open(out, create=True)
            if earlier.manifest["images"] is not None and "extends" not in earlier.manifest:
                raise TpsfmError(f"{out} holds another map, which isn't an extension; name another folder with --out")
            with earlier.locked():
                shutil.rmtree(out)
        workspace = Workspace.open(out, create=True)
        with workspace.locked():
            workspace.manifest["extends"] = str(old.root.resolve())
            workspace.save()
            extension = cls(map, workspace)
            try:
                yield extension
            finally:
                if not extension._built:
                    shutil.rmtree(workspace.root, ignore_errors=True)

    def build(
        self, results: Mapping[Path, Localization], features: FeatureStore, progress: Progress | None = None
    ) -> Workspace | None:
        """Match and register localized photos, triangulate their points, adjust the map.

        Args:
            results: by the photo's file; those without a pose are left out.
            features: holds the features of those with one, by the result's name.
            progress: shows the matching; None is silent.

        Returns:
            The new workspace; None where no photo has a pose.

        Raises:
            TpsfmError: features are missing, or the new map can't be written.
        """
        start = time.perf_counter()
        old, new = self.map.workspace, self.workspace
        keys = {name: old.manifest["photos"][name] for name in self.map.model.images}
        folder = _unused_folder(keys)
        added = {f"{folder}/{result.name}": result for result in results.values() if result.pose is not None}
        if not added:
            return None
        images, photos = new.root.resolve() / "images", image_folder(old)
        for name in keys:
            _link(photos / name, images / name)
        shutil.copyfile(old.features, new.features)
        with FeatureStore(new.features, "a") as store:
            for path, result in results.items():
                if result.pose is not None:
                    name = f"{folder}/{result.name}"
                    _link(path, images / name)
                    keys[name] = features.key(result.name) or ""
                    store.write(name, features.read(result.name), keys[name])
        shutil.copyfile(old.database, new.database)
        if old.patches.exists():
            shutil.copyfile(old.patches, new.patches)
        self._extend_model(added, images, progress or Progress())
        if (old.sparse / GEOREFERENCE).exists():
            for copy in (new.sparse, new.root):
                shutil.copyfile(old.sparse / GEOREFERENCE, copy / GEOREFERENCE)
        shared = {"options": old.manifest["options"], "unreadable": {}}
        new.manifest |= shared | {"photos": keys}
        new.images = images
        new.finish("map", digest(sorted(keys.items())), time.perf_counter() - start, models=1)
        self._built = True
        write_results(new)
        return new

    def _extend_model(self, added: Mapping[str, Localization], images: Path, progress: Progress) -> None:
        new, mapping = self.workspace, self.map.stages.mapping
        pairs = _pairs(added)
        with FeatureStore(new.features) as features, progress.bar("matches", len(pairs)) as update:
            matcher = self.map.matcher
            jobs = pair_features(lambda name: matcher.prepare(features.read(name)), pairs)

            def matches() -> Iterator[tuple[str, str, np.ndarray]]:
                for done, ((a, b), (found, _)) in enumerate(in_parallel(matcher.match, jobs), 1):
                    update(done, len(pairs))
                    yield a, b, found

            colmap.extend_model(
                self.map.workspace.sparse,
                new.database,
                images,
                new.sparse,
                {name: (r.camera, r.pose) for name, r in added.items() if r.camera is not None and r.pose is not None},
                features.read_keypoints,
                matches(),
                mapping.seed,
                mapping.threads,
                fixed_cameras(self.map.workspace),
            )


def _pairs(added: Mapping[str, Localization]) -> list[Pair]:
    """Each new photo with the map's images it was matched with, and with the new ones that see the same points."""
    retrieved = [(name, other) for name, result in added.items() for other in result.retrieved]
    seen = {name: result.matches[:, 1] for name, result in added.items()}
    return canonical([*retrieved, *from_covisibility(seen, NEIGHBOURS, MIN_SHARED)])


def _unused_folder(names: Mapping[str, str]) -> str:
    """ "added", or the first of "added2", "added3", ... that no image's name begins with."""
    taken = {name.split("/", 1)[0] for name in names}
    numbered = (f"added{number}" for number in range(2, len(names) + 3))
    return next(folder for folder in ("added", *numbered) if folder not in taken)


def _link(photo: Path, name: Path) -> None:
    """A relative link to a photo, so that both may move together, or a copy where there are no links."""
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(os.path.relpath(photo.resolve(), name.parent.resolve()), name)
    except OSError:
        shutil.copyfile(photo, name)

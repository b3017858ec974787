"""A map extended with localized photos: a new workspace beside the old one."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import numpy as np

from tpsfm import colmap
from tpsfm.errors import TpsfmError
from tpsfm.features import Features
from tpsfm.io.store import FeatureStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.localization.landmarks import MIN_SHARED
from tpsfm.localization.map import Map
from tpsfm.localization.pose import Localization
from tpsfm.matching.batch import match_pairs
from tpsfm.pairs.selection import canonical
from tpsfm.progress import Quiet
from tpsfm.reconstruction.report import finish, image_folder


class Extension:
    """The workspace of an extended map; `add` the photos, then `finish`.

    Its `images` folder has links to the map's photos and, below a folder "added", to the new ones. The old workspace is
    only read.

    Args:
        map: the map to extend.
        out: the new workspace; an earlier extension there is replaced.

    Raises:
        TpsfmError: `out` is the map itself, holds something else or is being made by another process, or the map's
            photos or database are gone.
    """

    def __init__(self, map: Map, out: Path) -> None:
        self.map = map
        old = map.workspace
        if not old.database.is_file():
            raise TpsfmError(f"{old.root}: its database is gone, and without it the map can't grow; run 'tpsfm map'")
        photos = image_folder(old)
        if out.exists():
            if out.resolve() == old.root.resolve():
                raise TpsfmError(f"{out} is the map itself; name another folder with --out")
            out = out.resolve()
            earlier = Workspace.open(out, create=True)
            if earlier.manifest["images"] is not None and "extends" not in earlier.manifest:
                raise TpsfmError(f"{out} holds another map, which isn't an extension; name another folder with --out")
            with earlier.locked():
                shutil.rmtree(out)
        self.workspace = Workspace.open(out, create=True)
        self._lock = ExitStack()
        self._lock.enter_context(self.workspace.locked())
        self.workspace.manifest["extends"] = str(old.root.resolve())
        self.workspace.save()
        shutil.copyfile(old.features, self.workspace.features)
        shutil.copyfile(old.database, self.workspace.database)
        self.images = self.workspace.root.resolve() / "images"
        self.added: dict[str, Localization] = {}
        self._keys = {name: old.manifest["photos"][name] for name in map.model.images}
        for name in self._keys:
            _link(photos / name, self.images / name)
        self._folder = next(
            folder
            for folder in ("added", *(f"added{number}" for number in range(2, len(self._keys) + 3)))
            if not any(name.startswith(f"{folder}/") for name in self._keys)
        )

    def add(self, path: Path, result: Localization, features: Features) -> None:
        """Take a localized photo, and its features, into the workspace."""
        name = f"{self._folder}/{result.name}"
        _link(path, self.images / name)
        self._keys[name] = digest([result.name, features.keypoints.tolist()])
        with FeatureStore(self.workspace.features, "a") as store:
            store.write(name, features, self._keys[name])
        self.added[name] = result

    def finish(self, progress: Quiet) -> Workspace | None:
        """Match and register the photos, triangulate, adjust; None, and no workspace, where there are no photos.

        Raises:
            TpsfmError: the new model can't be written.
        """
        with self._lock:
            if not self.added:
                shutil.rmtree(self.workspace.root)
                return None
            return self._build(progress)

    def _build(self, progress: Quiet) -> Workspace:
        old, new, options = self.map.workspace, self.workspace, self.map.options
        start = time.perf_counter()
        pairs = self._pairs()
        with FeatureStore(new.features) as features, progress.bar("matches", len(pairs)) as update:
            matcher = options.matcher(str(self.map.extractor.device))
            found = enumerate(match_pairs(matcher, features.read, pairs), 1)
            rows = ((a, b, matches) for done, ((a, b), (matches, _)) in found if update(done, len(pairs)) is None)
            colmap.extend_model(
                old.sparse,
                new.database,
                self.images,
                new.sparse,
                {name: (result.camera, result.pose) for name, result in self.added.items()},
                features.read_keypoints,
                rows,
                options.seed,
                options.threads,
            )
        new.manifest |= {
            "images": str(self.images),
            "options": old.manifest["options"],
            "photos": self._keys,
            "unreadable": {},
        }
        new.finish("map", digest(sorted(self._keys.items())), time.perf_counter() - start, models=1)
        finish(new)
        return new

    def _pairs(self) -> list[tuple[str, str]]:
        """Each new photo with the map's images it was matched with, and with the new ones that see the same points."""
        pairs = [(name, other) for name, result in self.added.items() for other in result.retrieved]
        points = {name: np.unique(result.matches[:, 1]) for name, result in self.added.items()}
        for a, b in combinations(self.added, 2):
            if len(np.intersect1d(points[a], points[b], assume_unique=True)) >= MIN_SHARED:
                pairs.append((a, b))
        return canonical(pairs)


def _link(photo: Path, name: Path) -> None:
    """A link to a photo, or a copy where there are no links."""
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(photo.resolve(), name)
    except OSError:
        shutil.copyfile(photo, name)

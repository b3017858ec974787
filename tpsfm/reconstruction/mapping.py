"""Cameras and points from the verified matches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tpsfm.io.workspace import Workspace, digest
from tpsfm.progress import Progress
from tpsfm.reconstruction.stage import Done, Stage, key_of, option, photo_keys
from tpsfm.reconstruction.verification import Verification


@dataclass(frozen=True, kw_only=True)
class Mapping(Stage):
    """Reconstructs the map by COLMAP into `mapped`, the largest model first.

    It may end without any model, which the manifest's count of "models" tells.
    """

    name: ClassVar[str] = "map"
    title: ClassVar[str] = "map"

    mapper: str = option("incremental", "COLMAP's mapper.", choices=("incremental", "global"))

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        from tpsfm import colmap

        verified = key_of(workspace, Verification, "tpsfm map")
        key = digest([verified, self.mapper, self.seed])
        if self._is_done(workspace, key, workspace.mapped / "images.bin"):
            return None
        database, images, count = workspace.database, Path(workspace.manifest["images"]), len(photo_keys(workspace))
        with progress.bar(self.title, count) as update:
            if self.mapper == "global":
                models = colmap.reconstruct_global(database, images, workspace.mapped, self.seed, self.threads)
            else:
                models = colmap.reconstruct_incremental(
                    database, images, workspace.mapped, self.seed, self.threads, lambda done: update(done, count)
                )
        return Done(key, 1, counts={"models": len(models)})

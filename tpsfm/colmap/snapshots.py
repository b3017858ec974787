"""Snapshots of a map that is being made, from which a run that was killed goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.reader import read_model
from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import replace_folder

_KEPT = 2  # the last one may not be whole


class Snapshots:
    """The snapshots that COLMAP's incremental mapper makes, in a folder of their own.

    A map made from one is as good as one made at once; their last bits differ.

    Args:
        folder: made where it is missing.
        every: photos between two.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = max(1, every)
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def options(self) -> dict[str, Any]:
        """COLMAP's."""
        return {"snapshot_path": str(self.folder), "snapshot_frames_freq": self.every}

    def best(self) -> tuple[Path, int] | None:
        """The snapshot of the most photos that is whole, and how many; None where there is none."""
        found = []
        for number, folder in enumerate(self._all()):
            with suppress(TpsfmError):
                found.append((len(read_model(folder).images), number, folder))
        if not found:
            return None
        photos, _, folder = max(found)
        return folder, photos

    def prune(self) -> None:
        """Delete all but the last."""
        for folder in self._all()[:-_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        """In the order in which they were made, which COLMAP names them by."""
        return sorted(folder for folder in self.folder.iterdir() if folder.is_dir())


class Steps:
    """Counts registered photos from COLMAP's callbacks, which carry no arguments, and deletes earlier snapshots."""

    def __init__(self, progress: Callable[[int], None] | None, snapshots: Snapshots | None, begun: int) -> None:
        self.progress = progress
        self.snapshots = snapshots
        self.begun = begun  # photos that were registered before
        self.count = 0

    def start(self) -> None:
        self.count = self.begun - 1 if self.begun else 1
        self.begun = 0
        self.next()

    def next(self) -> None:
        self.count += 1
        if self.snapshots is not None:
            self.snapshots.prune()
        if self.progress is not None:
            self.progress(self.count)


class Checkpoint:
    """A model between the steps of its completion or adjustment: the last one, in a folder of its own.

    A run that goes on from it begins the solver of the next step anew: the last bits differ.

    Args:
        folder: made with the first model; whoever is done removes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> tuple[pycolmap.Reconstruction, int] | None:
        """The model, and how many steps were done; None where there is none."""
        for folder in sorted(self.folder.glob("[0-9]*"), reverse=True):
            with suppress(TpsfmError):
                read_model(folder)
                return pycolmap.Reconstruction(folder), int(folder.name)
        return None

    def save(self, model: pycolmap.Reconstruction, done: int) -> None:
        """Keep a model after so many steps, and no earlier one.

        Raises:
            OSError, RuntimeError: it can't be written.
        """
        new = self.folder / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        model.write_binary(new)
        replace_folder(new, self.folder / f"{done:03}")
        for folder in self.folder.iterdir():
            if folder.name != f"{done:03}":
                shutil.rmtree(folder, ignore_errors=True)

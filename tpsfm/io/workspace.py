"""A run's folder: its files, its manifest, its lock, and which of its stages are done."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import write_atomic

_FORMAT = 1
_TABLES = {  # of a manifest, and what their values are
    "versions": str,
    "options": object,
    "stages": dict,
    "photos": str,
    "unreadable": str,
    "left_out": str,
    "turns": int,
    "result": object,
}
_PACKAGES = ("tpsfm", "pycolmap", "torch", "numpy", "h5py", "opencv-python-headless", "pillow", "faiss-cpu")

log = logging.getLogger("tpsfm")


class Workspace:
    """The folder that holds one reconstruction; make it with `Workspace.open`.

    Attributes:
        root: the folder; the other paths lie in it.
        photos, features, pairs, database, mapped, sparse, patches, points, panoramas, report, log, run: paths of
            its files; `photos` holds the records of the photos; `mapped` and `sparse` are folders, the map before and
            after its alignment; `run` is run.json.
        manifest: what run.json holds: "versions", "images" (the image folder, see `images`), "options" and
            "stages", for each finished stage its "key", "seconds", "cpu" and "counts". Change it, then `save`.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.photos = self.root / "photos.json"
        self.features = self.root / "features.h5"
        self.pairs = self.root / "pairs.txt"
        self.database = self.root / "database.db"
        self.mapped = self.root / "mapped"
        self.sparse = self.root / "sparse"
        self.patches = self.root / "patches.h5"
        self.points = self.root / "points.ply"
        self.panoramas = self.root / "panoramas.csv"
        self.report = self.root / "report.html"
        self.log = self.root / "log.txt"
        self.run = self.root / "run.json"
        self.manifest: dict[str, Any] = {}

    def of_model(self, number: int) -> Workspace:
        """The same workspace, `mapped`, `sparse` and `patches` those of its model 1, 2, ...; 0 is the largest."""
        other = Workspace(self.root)
        other.manifest = self.manifest
        if number:
            other.mapped, other.sparse = self.root / "mapped" / str(number), self.root / "sparse" / str(number)
            other.patches = self.root / f"patches-{number}.h5"
        return other

    @classmethod
    def open(cls, root: Path, create: bool = False) -> Workspace:
        """Open the workspace at `root`; with `create`, make it where there is none.

        Raises:
            TpsfmError: `root` is a file, holds files but no workspace, can't be written (with `create`), is
                no workspace (without `create`), or its run.json is damaged.
        """
        workspace = cls(root)
        root = workspace.root
        try:
            if root.exists() and not root.is_dir():
                raise TpsfmError(f"{root} is a file; name a folder")
            new = not workspace.run.exists()
            if new and not create:
                raise TpsfmError(f"{root} is not a workspace (no run.json); make one with 'tpsfm reconstruct'")
            root.mkdir(parents=True, exist_ok=True)
            if new and any(not entry.name.startswith(".") for entry in root.iterdir()):
                raise TpsfmError(f"{root} holds files but is not a workspace (no run.json); name a new folder")
            if create and not os.access(root, os.W_OK | os.X_OK):
                raise TpsfmError(f"cannot write to {root}; change its permissions or name another folder")
            workspace.manifest = _manifest({"versions": _versions()}) if new else _load(workspace.run)
        except OSError as error:
            raise TpsfmError(f"cannot open workspace {root}: {error.strerror or error}") from error
        if new:
            workspace.save()
        return workspace

    @property
    def images(self) -> Path:
        """The folder of the photos; one in the workspace moves with it.

        Raises:
            TpsfmError: none is known yet.
        """
        folder = self.manifest["images"]
        if folder is None:
            raise TpsfmError(f"{self.root}: no photos are known yet; run 'tpsfm extract' first")
        return self.root / folder

    @images.setter
    def images(self, folder: Path) -> None:
        folder, root = Path(folder).resolve(), self.root.resolve()
        self.manifest["images"] = str(folder.relative_to(root) if folder.is_relative_to(root) else folder)

    @contextmanager
    def locked(self) -> Iterator[Workspace]:
        """Hold the workspace for writing; meanwhile what is logged under "tpsfm" goes to `log` too.

        The lock ends with the block, or with the process, however it dies.

        Raises:
            TpsfmError: another process holds it (its number is told), or the folder can't be written.
        """
        from filelock import FileLock, Timeout

        holder = self.root / ".pid"
        try:
            lock = FileLock(self.root / ".lock").acquire(blocking=False)
        except Timeout:
            pid = "unknown"
            with suppress(OSError):
                pid = holder.read_text().strip()
            raise TpsfmError(f"{self.root} is in use by another tpsfm (process {pid}); wait until it is done") from None
        except OSError as error:
            raise TpsfmError(f"cannot lock {self.root}: {error.strerror or error}") from error
        with lock:
            try:
                holder.write_text(f"{os.getpid()}\n")
                handler = logging.FileHandler(self.log, encoding="utf-8")
            except OSError as error:
                raise TpsfmError(f"cannot write to {self.root}: {error.strerror or error}") from error
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            level = log.level
            log.addHandler(handler)
            log.setLevel(min(log.getEffectiveLevel(), logging.INFO))
            try:
                yield self
            finally:
                log.setLevel(level)
                log.removeHandler(handler)
                handler.close()
                with suppress(OSError):
                    holder.unlink()

    def is_done(self, stage: str, key: str) -> bool:
        """Whether `stage` is finished with `key`, the digest of all that its result depends on."""
        return self.manifest["stages"].get(stage, {}).get("key") == key

    def start(self, stage: str) -> None:
        """Record that `stage` is not done, before its earlier result is touched."""
        if self.manifest["stages"].pop(stage, None) is not None:
            self.save()

    def finish(self, stage: str, key: str, seconds: float, cpu: float | None = None, **counts: Any) -> None:
        """Record that `stage` is done: its key, its wall and processor time (s), and what it counted (JSON values)."""
        self.manifest["versions"] = _versions()
        times = {"seconds": round(seconds, 3)} | ({} if cpu is None else {"cpu": round(cpu, 3)})
        self.manifest["stages"][stage] = {"key": key, **times, "counts": counts}
        self.save()

    def save(self) -> None:
        """Write the manifest to run.json, whole or not at all.

        Raises:
            TpsfmError: it can't be written.
        """
        write_atomic(self.run, json.dumps(self.manifest, indent=1) + "\n")


def digest(value: Any) -> str:
    """Hex digest of a JSON value: equal for equal values, whatever the order of a dict's keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def remember_map(root: Path, folder: Path | None = None) -> None:
    """Remember `root` as the last map built from `folder` (default: the working directory), for `last_map`.

    It is kept in the user's cache; where that can't be written, nothing is remembered.
    """
    note = _note(folder)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(Path(root).resolve()), encoding="utf-8")


def last_map(folder: Path | None = None) -> Path | None:
    """The workspace last built from `folder` (default: the working directory), None where none is left."""
    with suppress(OSError, UnicodeDecodeError):
        root = Path(_note(folder).read_text(encoding="utf-8"))
        if (root / "run.json").exists():
            return root
    return None


def _note(folder: Path | None) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tpsfm" / "last-map" / digest(str(Path(folder or ".").resolve()))


def _manifest(stored: dict) -> dict[str, Any]:
    return {"format": _FORMAT, "versions": {}, "images": None, "options": {}, "stages": {}} | stored


def _load(path: Path) -> dict[str, Any]:
    remedy = "write {} into it to keep the features and matches, or name a new folder"
    try:
        manifest = _manifest(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise TpsfmError(f"{path} is damaged ({error}); {remedy}") from error
    problem = _problem(manifest)
    if problem:
        raise TpsfmError(f"{path} is damaged ({problem}); {remedy}")
    if manifest["format"] != _FORMAT:
        raise TpsfmError(f"{path} has format {manifest['format']}, this tpsfm writes {_FORMAT}; name a new folder")
    return manifest


def _problem(manifest: dict[str, Any]) -> str | None:
    """What of a manifest isn't as we write it; None where all is."""
    for key, kind in _TABLES.items():
        table = manifest.get(key, {})
        if not (isinstance(table, dict) and all(isinstance(value, kind) for value in table.values())):
            return f"'{key}' is no table of {kind.__name__}"
    stages = manifest["stages"].values()
    for stage in stages:
        if not (isinstance(stage.get("key"), str) and isinstance(stage.get("seconds"), int | float)):
            return "a stage lacks its key or time"
        if not isinstance(stage.get("counts"), dict):
            return "a stage lacks its counts"
    images, video = manifest["images"], manifest.get("video", {"path": ""})
    if not isinstance(images, str | None) or "\0" in (images or ""):
        return "'images' is no path"
    if not (isinstance(video, dict) and isinstance(video.get("path"), str)):
        return "'video' has no path"
    return None


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions

"""The photos of a folder, kept in a file from run to run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import write_atomic
from tpsfm.photos.depth import Levels, levels_of
from tpsfm.photos.listing import list_images, read_list
from tpsfm.photos.photo import Photo, file_digest, read_photo
from tpsfm.photos.pixels import read_values

_VERSION = 2  # another one is made anew
_SAMPLE = 8  # deep photos of a folder whose values are looked at
_FIELDS = tuple(field.name for field in fields(Photo) if field.name not in ("name", "path"))


class PhotoCatalog:
    """Records of the photos below a folder: one whose file has not changed is not read again.

    Use it in a `with` block: at its end, however it ends, the records are written. Threads may share it.

    Args:
        folder: of the photos.
        file: where the records are kept, JSON; what is damaged there is read anew.
        masks: as for `list_images`.
        listed: a file that names the photos (see `read_list`); all below the folder if left out.

    Attributes:
        names: of the photos, sorted paths below the folder.

    Raises:
        TpsfmError: as `list_images` and `read_list`.
    """

    def __init__(self, folder: Path, file: Path, masks: Path | None = None, listed: Path | None = None) -> None:
        self.folder, self.file = Path(folder), Path(file)
        self.names = list_images(self.folder, masks) if listed is None else read_list(listed, self.folder)
        self._kept = _load(self.file)
        self._levels: dict[str, Levels] = {}  # by folder
        self._lock = Lock()

    def __enter__(self) -> PhotoCatalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()

    def __getitem__(self, name: str) -> Photo:
        """The record of a photo.

        Raises:
            TpsfmError: it can't be read or is not an image.
        """
        path = self.folder / name
        try:
            stamp = _stamp(path)
        except OSError as error:
            raise TpsfmError(f"cannot read image {path}: {error.strerror or error}") from error
        known = self._kept.get(name)
        if known is not None and known[0] == stamp:
            return replace(known[1], path=path)
        photo = read_photo(path, name)
        self._kept[name] = stamp, photo
        if photo.deep:
            photo = replace(photo, levels=self._levels_of(str(PurePosixPath(name).parent)))
            self._kept[name] = stamp, photo
        return photo

    def _levels_of(self, folder: str) -> Levels | None:
        """The levels of a folder's deep photos: those that its photos have, else found in a sample of them, if any can
        be decoded."""
        with self._lock:
            if folder not in self._levels:
                names = [name for name in self.names if str(PurePosixPath(name).parent) == folder]
                levels = next((self._kept[name][1].levels for name in names if self._has_levels(name)), None)
                samples = [] if levels else list(self._sample(names))
                if levels is None and not samples:
                    return None
                self._levels[folder] = levels or levels_of(samples)
            return self._levels[folder]

    def _has_levels(self, name: str) -> bool:
        return name in self._kept and self._kept[name][1].levels is not None

    def _sample(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """Values of a few deep photos, as stored."""
        for name in names[:: 1 + len(names) // _SAMPLE]:
            with suppress(TpsfmError):
                values = read_values(self.folder / name)
                if values.dtype not in (np.uint8, bool):
                    yield values

    def save(self) -> None:
        """Write the records of the photos that are still there, whole or not at all.

        Raises:
            TpsfmError: the file can't be written.
        """
        still = ((name, self._kept[name]) for name in self.names if name in self._kept)
        kept = {name: [*stamp, _to_json(photo)] for name, (stamp, photo) in still}
        write_atomic(self.file, json.dumps({"version": _VERSION, "photos": kept}, indent=0))


def kept_photos(file: Path, folder: Path) -> dict[str, Photo]:
    """The records that a `PhotoCatalog` kept, by name, without a look at the photos, which may be gone.

    Args:
        file: of the records; there are none where it is missing.
        folder: of the photos.
    """
    return {name: replace(photo, path=Path(folder) / name) for name, (_, photo) in _load(file).items()}


def unchanged_photos(file: Path, folder: Path) -> dict[str, Photo]:
    """Those of `kept_photos` whose files are still there and have the same content."""
    unchanged = {}
    for name, (stamp, photo) in _load(file).items():
        path = Path(folder) / name
        with suppress(OSError, TpsfmError):
            if _stamp(path) == stamp or file_digest(path) == photo.digest:
                unchanged[name] = replace(photo, path=path)
    return unchanged


def _stamp(path: Path) -> tuple[int, int, int]:
    """Size and times of a file; together they change with its content, though another takes its place."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load(file: Path) -> dict[str, tuple[tuple[int, int, int], Photo]]:
    with suppress(OSError, ValueError, TypeError, AttributeError, LookupError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] == _VERSION:
            rows = content["photos"].items()
            return {name: ((size, mtime, ctime), _photo(name, rest)) for name, (size, mtime, ctime, rest) in rows}
    return {}


def _to_json(photo: Photo) -> dict[str, Any]:
    values = asdict(photo)
    return {key: values[key] for key in _FIELDS}


def _photo(name: str, values: dict[str, Any]) -> Photo:
    for key in ("gps", "gps_deviation", "up", "levels"):
        values[key] = None if values.get(key) is None else tuple(values[key])
    return Photo(**values, name=name)

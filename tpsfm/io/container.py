"""Array sets in an HDF5 file, identified by group and record, that survive a crash of the process that writes them.

Beside its arrays a set has a record (see `records`), written last, that holds its key and where in the file its
bytes are. So a set that was complete is found by its record, whatever became of HDF5's own tables when the
writer was killed or the file cut off: a file that was not closed is never trusted, its sets are copied, each
verified, to a fresh file.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import zlib
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import h5py
import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.io import records

_LIBVER = ("v108", "v108")  # read by any HDF5 since 1.8, fast with many groups
_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, zlib.error)  # what h5py raises of a damaged file

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_RESERVE = 1 << 20  # bytes; far more than HDF5's tables grow by in one change

log = logging.getLogger("tpsfm")

AnyContainer = TypeVar("AnyContainer", bound="Container")


class Container:
    """Array sets, each with a key, identified by the path of their group and the name of their record.

    Attributes:
        kind: what it holds, in the plural.
        command: what the user runs to make it.
    """

    kind: str
    command: str

    def __init__(self, path: Path, mode: str = "r") -> None:
        """Open a store.

        Args:
            path: the file.
            mode: "r" to read; "a" to write too: it is made where absent, repaired where it was not closed.

        Raises:
            TpsfmError: it can't be opened, is in use by another process, is not such a store, or (to read) is
                absent or damaged.
        """
        if mode not in ("r", "a"):
            raise ValueError(f"mode is 'r' or 'a', not {mode!r}")
        self.path = Path(path)
        self._changed = False  # and so marked unclean in the file
        self._failed = False
        self._keys: dict[tuple[str, str], str] = {}
        if mode == "a" and not self.path.exists():
            self._file = self._create(self.path)
            return
        self._file = self._open(mode)
        if self._file is None:
            if mode == "r":
                raise TpsfmError(f"{self.path} is damaged or was not closed; run '{self.command}' again")
            self._repair()

    def __enter__(self: AnyContainer) -> AnyContainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file: all that was written is complete.

        Raises:
            TpsfmError: the last of it can't be written (the disk is full).
        """
        if not self._file:
            return
        size = None
        try:
            if self._changed and not self._failed:
                index = _pack([[*place, key] for place, key in self._keys.items()])
                self._reserve(index.nbytes)
                self._file.attrs["index"] = index
                self._file.flush()
                self._file.attrs.modify("clean", True)
                size = self._file.id.get_filesize()
        finally:
            path = self._file.filename
            with suppress(*_UNREADABLE) if self._failed else nullcontext():
                self._file.close()
        if size is not None and size < os.path.getsize(path):
            os.truncate(path, size)  # gives back what was reserved

    def _create(self, path: Path) -> h5py.File:
        empty = io.BytesIO()  # for what HDF5 does on a full disk see _reserve
        with h5py.File(empty, "w", libver=_LIBVER) as file:
            file.attrs.update({"format": self.kind, "clean": True, "index": _pack([])})
        try:
            self._reserved = path.write_bytes(empty.getvalue())
            return h5py.File(path, "r+", libver=_LIBVER)
        except OSError as error:
            raise self._unwritable(error) from error

    def _open(self, mode: str) -> h5py.File | None:
        """The file if it is whole, its index read; None if it has to be repaired."""
        try:
            # Never look at an unclean file in "r+": on closing it HDF5 cuts off what its tables don't hold.
            file = h5py.File(self.path, "r")
            kind = file.attrs.get("format")
            foreign = kind != self.kind and (kind is not None or len(file) > 0)
            if not foreign and file.attrs["clean"]:
                self._keys = {(path, record): key for path, record, key in _unpack(file.attrs["index"])}
                if mode == "r":
                    return file
                file.close()
                self._reserved = os.path.getsize(self.path)
                return h5py.File(self.path, "r+", libver=_LIBVER)
            file.close()
        except BlockingIOError as error:
            raise TpsfmError(f"{self.path} is in use by another process; wait until it is done") from error
        except _UNREADABLE as error:
            if isinstance(error, OSError) and error.errno:
                remedy = f"; run '{self.command}'" if error.errno == errno.ENOENT else ""
                raise TpsfmError(f"cannot open {self.path}: {os.strerror(error.errno)}{remedy}") from error
            log.debug("%s: %s", self.path, error)
            return None
        if foreign:
            raise TpsfmError(f"{self.path} is not a store of {self.kind}; name another file")
        return None

    def _repair(self) -> None:
        """Copy all whole sets to a fresh file and put it in this one's place."""
        fresh = self.path.with_name(f".{self.path.name}.repair")
        lost = []
        try:
            self._file = self._create(fresh)
            for content, arrays in records.salvage(self.path):
                if arrays is None:
                    lost.append(content["path"])
                else:
                    self._put(content["path"], content["record"], arrays, content["key"])
            self.close()
            os.replace(fresh, self.path)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            fresh.unlink(missing_ok=True)
        self._file = self._open("a")
        log.warning(
            "%s was damaged or not closed: %d entries recovered, %d lost%s",
            self.path,
            len(self._keys),
            len(lost),
            "".join(f" {path}" for path in lost[:10]),
        )

    def _put(self, path: str, record: str, arrays: dict[str, np.ndarray], key: str) -> None:
        """Write a set in place of any that is there; it counts once its record is written."""
        self._begin(sum(array.nbytes for array in arrays.values()))
        try:
            self._erase(path, record, arrays)
            group = self._file.require_group(path)
            places = {name: _append(group, name, array) for name, array in arrays.items()}
            content = {"path": path, "record": record, "key": key, "arrays": places}
            _append(group, record, records.encode(content))
        except (OSError, RuntimeError) as error:
            self._failed = True
            raise self._unwritable(error) from error
        self._keys[path, record] = key

    def _get(self, path: str, record: str, names: Iterable[str]) -> list[np.ndarray]:
        """Some arrays of a set, verified."""
        if (path, record) not in self._keys:
            raise TpsfmError(f"{self.path} has no {self.kind} of '{path}'; run '{self.command}'")
        try:
            group = self._group(path)
            places = records.decode(_read(group, record))["arrays"]
            arrays = {name: _read(group, name) for name in names}
            whole = all(_checksum(array) == places[name][-1] for name, array in arrays.items())
        except _UNREADABLE as error:
            log.debug("%s: %s", self.path, error)
            whole = False
        if not whole:
            self._condemn()
            raise TpsfmError(f"{self.path} is damaged at '{path}'; run '{self.command}' again")
        return list(arrays.values())

    def _shape(self, path: str, record: str, name: str) -> tuple[int, ...]:
        """The shape of an array of a set, as its record has it."""
        if (path, record) not in self._keys:
            raise TpsfmError(f"{self.path} has no {self.kind} of '{path}'; run '{self.command}'")
        try:
            return tuple(records.decode(_read(self._group(path), record))["arrays"][name][1])
        except _UNREADABLE as error:
            log.debug("%s: %s", self.path, error)
            self._condemn()
            raise TpsfmError(f"{self.path} is damaged at '{path}'; run '{self.command}' again") from error

    def _group(self, path: str) -> h5py.Group:
        group = self._file[path]
        if not isinstance(group, h5py.Group):
            raise ValueError(f"no group '{path}'")
        return group

    def _condemn(self) -> None:
        """Mark the file unclean: who opens it for writing next repairs it."""
        self._failed = True
        with suppress(*_UNREADABLE):
            self._file.close()
            with h5py.File(self.path, "r+", libver=_LIBVER) as file:
                file.attrs.modify("clean", False)

    def _drop(self, path: str, record: str, names: Iterable[str]) -> None:
        if (path, record) in self._keys:
            self._begin()
            self._erase(path, record, names)

    def _erase(self, path: str, record: str, names: Iterable[str]) -> None:
        """Take a set out, the bytes of its record first, so that no repair brings it back."""
        self._keys.pop((path, record), None)
        if path not in self._file:
            return
        group = self._file[path]
        if record in group:
            group[record][...] = 0
        for name in (record, *names):
            if name in group:
                del group[name]
        if not len(group):
            del self._file[path]

    def _begin(self, size: int = 0) -> None:
        """Before a change that adds `size` bytes: room for it; before the first, mark the file unclean."""
        if self._failed or not self._file or self._file.mode == "r":
            raise TpsfmError(f"{self.path} is not open for writing")
        self._reserve(size)
        if not self._changed:
            self._changed = True
            self._file.attrs.modify("clean", False)
            self._file.flush()

    def _reserve(self, size: int) -> None:
        """Take room on the disk ahead of HDF5, which loses data and crashes where it finds the disk full."""
        end = self._file.id.get_filesize() + size + _RESERVE
        if end <= self._reserved:
            return
        end += 4 * _RESERVE
        try:
            with open(self._file.filename, "r+b") as file:
                file.seek(self._reserved)
                file.write(bytes(end - self._reserved))
        except OSError as error:
            if error.errno in _FULL:
                raise self._unwritable(error) from error
        self._reserved = end

    def _unwritable(self, error: Exception) -> TpsfmError:
        problem = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        return TpsfmError(f"cannot write {self.path}: {problem}; mend that and run again, nothing else is lost")


def _append(group: h5py.Group, name: str, array: np.ndarray) -> list:
    """Add a dataset to a group; returns its dtype, shape, place in the file and checksum.

    On return the dataset is closed, and so its bytes have left HDF5's buffers: a kill can't take them back.
    """
    array = np.ascontiguousarray(array)
    space = h5py.h5s.create_simple(array.shape)  # half the time of create_dataset
    dataset = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(array.dtype), space)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return [array.dtype.str, array.shape, dataset.get_offset() or 0, _checksum(array)]


def _read(group: h5py.Group, name: str) -> np.ndarray:
    dataset = h5py.h5d.open(group.id, name.encode())
    try:
        array = np.empty(dataset.shape, dataset.dtype)
    except TypeError as error:  # h5py's of a type that NumPy doesn't have
        raise ValueError(str(error)) from error
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(cast(Any, array))  # NumPy 2.2 types no buffer


def _unpack(index: object) -> list:
    if not isinstance(index, np.ndarray):
        raise ValueError("no index")
    return json.loads(zlib.decompress(index.tobytes()))


def _pack(index: list) -> np.ndarray:
    return np.frombuffer(zlib.compress(json.dumps(index).encode(), 1), np.uint8)

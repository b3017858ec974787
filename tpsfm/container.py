"""An HDF5 file of named sets of arrays that outlives the process that writes it.

Beside its arrays a set has a record, written last: a marker, a checksum, and in JSON its key and where in the
file each array's bytes are, with their checksums. So a set that was complete is found by its record, whatever
became of HDF5's own tables when the writer was killed or the file cut off: a file that was not closed is
never trusted, its sets are copied, each verified, to a fresh file.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tpsfm.errors import TpsfmError

_MARKER = b"\x89tpsfm record\r\n\x1a"
_HEAD = struct.Struct("<II")  # length and checksum of the JSON that follows
_VERSION = ("v108", "v108")  # readable by any HDF5 since 1.8, fast with many groups

log = logging.getLogger("tpsfm")


class Container:
    """Sets of arrays, each with a key; a set is told by its group's path and its record's name."""

    kind: str

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
        self._writing = False  # the file is marked unclean
        self._failed = False
        self._keys: dict[tuple[str, str], str] = {}
        if mode == "a" and not self.path.exists():
            self._file = self._create(self.path)
            return
        self._file = self._open(mode)
        if self._file is None:
            if mode == "r":
                raise TpsfmError(
                    f"{self.path} is damaged or was not closed; run the command that wrote it again"
                )
            self._repair()

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was written is complete.

        Raises:
            TpsfmError: the last of it couldn't be written (the disk is full).
        """
        if not self._file:
            return
        try:
            if self._writing and not self._failed:
                keys = json.dumps([[*place, key] for place, key in self._keys.items()]).encode()
                self._file.attrs["index"] = np.frombuffer(zlib.compress(keys, 1), np.uint8)
                self._file.flush()
                self._file.attrs.modify("clean", True)
            self._file.close()
        except (OSError, RuntimeError) as error:
            if not self._failed:
                raise self._unwritable(error) from error
        self._writing = False

    def _create(self, path: Path) -> h5py.File:
        try:
            file = h5py.File(path, "w", libver=_VERSION)
            file.attrs["format"] = self.kind
            file.attrs["clean"] = True
            file.attrs["index"] = np.frombuffer(zlib.compress(b"[]"), np.uint8)
            file.flush()
        except (OSError, RuntimeError) as error:
            raise self._unwritable(error) from error
        return file

    def _open(self, mode: str) -> h5py.File | None:
        """The file if it is whole, its index read; None if it has to be repaired."""
        file = None
        try:
            file = h5py.File(self.path, "r" if mode == "r" else "r+", libver=_VERSION)
            kind = file.attrs.get("format")
            if kind != self.kind and (kind is not None or len(file)):
                raise TpsfmError(f"{self.path} is not a store of {self.kind}; name another file")
            if file.attrs["clean"]:
                index = json.loads(zlib.decompress(file.attrs["index"].tobytes()))
                self._keys = {(path, record): key for path, record, key in index}
                return file
        except (OSError, RuntimeError, KeyError, ValueError, zlib.error) as error:
            if isinstance(error, BlockingIOError):
                raise TpsfmError(
                    f"{self.path} is in use by another process; wait until it is done"
                ) from error
            if isinstance(error, OSError) and error.errno:
                raise TpsfmError(f"cannot open {self.path}: {os.strerror(error.errno)}") from error
            log.debug("%s: %s", self.path, error)
        if file:
            file.close()
        return None

    def _repair(self) -> None:
        """Copy all whole groups to a fresh file and put it in this one's place."""
        fresh = self.path.with_name(f".{self.path.name}.repair")
        self._file = self._create(fresh)
        lost = []
        for head, arrays in _salvage(self.path):
            if arrays is None:
                lost.append(head["path"])
            else:
                self._put(head["path"], head["record"], arrays, head["key"])
        self.close()
        os.replace(fresh, self.path)
        self._file = self._open("a")
        log.warning(
            "%s was damaged or not closed: %d groups recovered, %d lost%s",
            self.path,
            len(self._keys),
            len(lost),
            "".join(f"; {path}" for path in lost[:10]),
        )

    def _put(self, path: str, record: str, arrays: dict[str, np.ndarray], key: str) -> None:
        """Write a set of arrays; the group counts once its record is there."""
        self._begin()
        try:
            self._erase(path, record, arrays)
            group = self._file.require_group(path)
            places = {name: self._append(group, name, array) for name, array in arrays.items()}
            head = {"path": path, "record": record, "key": key, "arrays": places}
            text = json.dumps(head).encode()
            self._append(
                group,
                record,
                np.frombuffer(_MARKER + _HEAD.pack(len(text), zlib.crc32(text)) + text, np.uint8),
            )
        except (OSError, RuntimeError, ValueError) as error:
            self._failed = True
            raise self._unwritable(error) from error
        self._keys[path, record] = key

    def _append(self, group: h5py.Group, name: str, array: np.ndarray) -> list:
        """Write one array to the file; returns its dtype, shape, place and checksum.

        When this returns, its dataset is closed and so its bytes have left HDF5's buffers.
        """
        array = np.ascontiguousarray(array)
        dataset = group.create_dataset(name, data=array)
        return [array.dtype.str, array.shape, dataset.id.get_offset() or 0, zlib.crc32(array)]

    def _get(self, path: str, record: str, names: list[str]) -> list[np.ndarray]:
        """Some arrays of a set, verified."""
        if (path, record) not in self._keys:
            raise TpsfmError(f"{self.path} has no {self.kind} of '{path}'; run the command that makes them")
        try:
            group = self._file[path]
            places = _parse(group[record][()].tobytes())["arrays"]
            arrays = [group[name][()] for name in names]
            whole = all(
                zlib.crc32(array) == places[name][3] for name, array in zip(names, arrays, strict=True)
            )
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            log.debug("%s: %s", self.path, error)
            whole = False
        if not whole:
            raise TpsfmError(f"{self.path} is damaged at '{path}'; delete it and run again")
        return arrays

    def _drop(self, path: str, record: str, names: list[str]) -> None:
        if (path, record) in self._keys:
            self._begin()
            self._erase(path, record, names)

    def _erase(self, path: str, record: str, names: list[str] | dict) -> None:
        """Take a set of arrays out, its record first, and its bytes too, so that no repair finds it."""
        self._keys.pop((path, record), None)
        if path in self._file:
            group = self._file[path]
            if record in group:
                group[record][...] = 0
            for name in (record, *names):
                if name in group:
                    del group[name]
            if not len(group):
                del self._file[path]

    def _begin(self) -> None:
        """Mark the file unclean before its first change."""
        if not self._writing:
            if self._failed or not self._file or self._file.mode == "r":
                raise TpsfmError(f"{self.path} is not open for writing")
            self._file.attrs.modify("clean", False)
            self._file.flush()
            self._writing = True

    def _unwritable(self, error: Exception) -> TpsfmError:
        return TpsfmError(
            f"cannot write {self.path}: {error}; free disk space or choose another folder, then run again"
        )


def _parse(record: bytes | memoryview) -> dict:
    """A record's content; ValueError where it is damaged."""
    start = len(_MARKER) + _HEAD.size
    if len(record) < start or bytes(record[: len(_MARKER)]) != _MARKER:
        raise ValueError("no record")
    length, checksum = _HEAD.unpack(record[len(_MARKER) : start])
    text = bytes(record[start : start + length])
    if len(text) < length or zlib.crc32(text) != checksum:
        raise ValueError("damaged record")
    return json.loads(text)


def _salvage(path: Path) -> Iterator[tuple[dict, dict[str, np.ndarray] | None]]:
    """The records in a file's bytes, each with its arrays, or with None where an array is damaged."""
    if not os.path.getsize(path):
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = data.find(_MARKER)
        while position >= 0:
            try:
                head = _parse(data[position : position + (1 << 16)])
            except ValueError:
                head = None
            if head:
                yield head, _arrays(data, head["arrays"])
            position = data.find(_MARKER, position + len(_MARKER))


def _arrays(data: mmap.mmap, places: dict[str, list]) -> dict[str, np.ndarray] | None:
    arrays = {}
    for name, (dtype, shape, offset, checksum) in places.items():
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        content = data[offset : offset + size]
        if len(content) < size or zlib.crc32(content) != checksum:
            return None
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)
    return arrays

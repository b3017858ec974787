"""The record that makes a set of arrays in an HDF5 file findable without HDF5.

A record is a marker, the length and checksum of a JSON text, and that text: the set's path in the file, the
record's name there, the set's key, and for each array its dtype, shape, offset in the file and checksum.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_MARKER = b"\x89tpsfm record\r\n\x1a"
_HEAD = struct.Struct("<II")  # length and checksum of the JSON that follows


def encode(content: dict) -> np.ndarray:
    """A record's bytes, uint8 [L]."""
    text = json.dumps(content).encode()
    return np.frombuffer(_MARKER + _HEAD.pack(len(text), zlib.crc32(text)) + text, np.uint8)


def decode(data: np.ndarray | mmap.mmap, position: int = 0) -> dict:
    """The content of the record at `position`; ValueError where it is damaged."""
    start = position + len(_MARKER) + _HEAD.size
    head = bytes(data[position:start])
    if len(head) < start - position or not head.startswith(_MARKER):
        raise ValueError("no record")
    length, checksum = _HEAD.unpack_from(head, len(_MARKER))
    text = bytes(data[start : start + length])
    if zlib.crc32(text) != checksum:
        raise ValueError("damaged record")
    return json.loads(text)


def salvage(path: Path) -> Iterator[tuple[dict, dict[str, np.ndarray] | None]]:
    """The records in a file's bytes, each with its arrays, or with None where an array is damaged."""
    if not os.path.getsize(path):
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = -1
        while (position := data.find(_MARKER, position + 1)) >= 0:
            try:
                content = decode(data, position)
            except ValueError:
                continue
            yield content, _arrays(data, content["arrays"])


def _arrays(data: mmap.mmap, places: dict[str, list]) -> dict[str, np.ndarray] | None:
    arrays = {}
    for name, (dtype, shape, offset, checksum) in places.items():
        content = data[offset : offset + math.prod(shape) * np.dtype(dtype).itemsize]
        if zlib.crc32(content) != checksum:
            return None
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)
    return arrays

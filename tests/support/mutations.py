"""Inputs that are damaged or odd, by a seeded generator."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

Rng = np.random.Generator

WORDS = [
    "", "nan", "inf", "-1", "0", "1e999", "0x10", "999999999999999999999", "../../etc/passwd", "/dev/zero", "日本",
    "\0", "a" * 5000, "PINHOLE", "#", ",", "\t", "\u202e", "<script>", "%s%n", "'; --", "view_000.jpg",
]  # fmt: skip
VALUES = [None, True, -1, 0, 1e308, float("nan"), 2**70, "", "x", "../..", "\0", [], [None], {}, {"a": 1}, [[1, 2], 3]]


def pick(rng: Rng, values: list):
    return values[rng.integers(len(values))]


def mutate_bytes(content: bytes, rng: Rng) -> bytes:
    """One to three of: cut, bits flipped, a block overwritten, inserted, removed or repeated; often in the head."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        reach = min(len(data), 200) if rng.random() < 0.5 else len(data)
        at, size = int(rng.integers(reach)), int(rng.integers(1, 400))
        noise = rng.bytes(size) if rng.random() < 0.6 else bytes([pick(rng, [0, 255])]) * size
        operation = rng.integers(6)
        if operation == 0:
            del data[at:]
        elif operation == 1:
            for place in rng.integers(reach, size=8):
                data[place] ^= 1 << rng.integers(8)
        elif operation == 2:
            data[at : at + size] = noise
        elif operation == 3:
            data[at:at] = noise
        elif operation == 4:
            del data[at : at + size]
        else:
            data[at:at] = data[at : at + size] * 3
    return bytes(data)


def mutate_file(path: Path, rng: Rng) -> None:
    path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def mutate_text(path: Path, rng: Rng) -> None:
    """Words replaced, rows removed, repeated or joined; or its bytes mutated."""
    if rng.random() < 0.3:
        return mutate_file(path, rng)
    rows = path.read_text().splitlines()
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(rows)))
        separator = "," if "," in rows[at] else " "
        words = rows[at].split(separator)
        words[rng.integers(len(words))] = pick(rng, WORDS)
        operation = rng.integers(5)
        if operation < 3:
            rows[at] = separator.join(words)
        elif operation == 3:
            rows.insert(at, rows[at])
        elif len(rows) > 1:
            rows[at : at + 2] = [separator.join(rows[at : at + 2])]
    path.write_text("\n".join(rows), encoding="utf-8", newline=pick(rng, ["\n", "\r\n", "\r"]))


def mutate_json(path: Path, rng: Rng) -> None:
    """Values replaced or removed; or its bytes mutated."""
    if rng.random() < 0.3:
        return mutate_file(path, rng)
    content = json.loads(path.read_text())
    for _ in range(rng.integers(1, 4)):
        places = list(_places(content))
        if not places:
            break
        owner, key = pick(rng, places)
        if rng.random() < 0.3:
            del owner[key]
        else:
            owner[key] = pick(rng, VALUES)
    path.write_text(json.dumps(content))


def _places(value):
    """(owner, key) of each value in a JSON content, the outer ones as often as all inner ones together."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    inner = [place for _, child in items if isinstance(child, dict | list) for place in _places(child)]
    own = [(value, key) for key, _ in items]
    return own * max(1, len(inner) // max(1, len(own))) + inner


def mutate_hdf5(path: Path, rng: Rng) -> None:
    """A data set removed or replaced by one of another type or shape, an attribute changed; or its bytes mutated."""
    if rng.random() < 0.5:
        return mutate_file(path, rng)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = pick(rng, names)
        shape = pick(rng, [(), (0,), (3,), (2, 2), (5, 128)])
        if rng.random() < 0.3:
            with suppress(KeyError, TypeError, ValueError, OSError):
                file[name].attrs[pick(rng, [*file[name].attrs, "x"])] = pick(rng, [0, "x", np.zeros(3)])
        else:
            del file[name]
            if rng.random() < 0.7:
                file[name] = rng.normal(size=shape).astype(pick(rng, ["f4", "f8", "i8", "u1", "S3"]))
        if rng.random() < 0.3:
            file.attrs[pick(rng, [*file.attrs, "x"])] = pick(rng, [0, "x", True, np.zeros(3)])


def mutate_sqlite(path: Path, rng: Rng) -> None:
    """Tables dropped or emptied, values replaced; or its bytes mutated."""
    if rng.random() < 0.4:
        return mutate_file(path, rng)
    with closing(sqlite3.connect(path)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = pick(rng, [name for name in tables if not name.startswith("sqlite_")])
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        value = pick(rng, [None, -5, 0, 2**40, "x", b"", b"\x00", rng.bytes(24)])
        with suppress(sqlite3.Error):
            if rng.random() < 0.25:
                database.execute(f"DROP TABLE {table}")
            elif rng.random() < 0.2:
                database.execute(f"DELETE FROM {table}")
            else:
                some = pick(rng, ["1", "rowid % 2", "rowid = 1"])
                database.execute(f"UPDATE {table} SET {pick(rng, columns)} = ? WHERE {some}", (value,))
        database.commit()


def mutate_safetensors(path: Path, rng: Rng) -> None:
    """Its header's values replaced or removed, tensors scaled to infinity; or its bytes mutated."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    choice = rng.random()
    if choice < 0.3:
        path.write_bytes(mutate_bytes(content, rng))
    elif choice < 0.45:
        body = bytearray(content[8 + size :])
        body[:4096] = np.full(1024, pick(rng, [np.nan, np.inf, 1e30]), "<f4").tobytes()
        path.write_bytes(content[: 8 + size] + body)
    else:
        header = path.with_suffix(".json")
        header.write_bytes(content[8 : 8 + size])
        mutate_json(header, rng)
        head = header.read_bytes()
        header.unlink()
        path.write_bytes(struct.pack("<Q", len(head)) + head + content[8 + size :])


def mutate_exif(path: Path, rng: Rng) -> None:
    """Odd values of tags that are read, or their bytes mutated."""
    numbers = [0, 1, 65535, -1, 2**31, 0.0, (0, 0), (1, 0), float("nan"), "x", b"\xff\xfe", (1, 2, 3, 4), ()]
    exif = Image.Exif()
    odd = lambda: pick(rng, numbers)  # noqa: E731
    main = {0x010F: "Maker", 0x0110: "Model", 0x0112: pick(rng, [1, 3, 6, 8]), 0x0132: "2020:01:01 00:00:00"}
    camera = {0x920A: 5.0, 0xA405: 28, 0xA404: 1.0, 0xA20E: 5000.0, 0xA20F: 5000.0, 0xA210: 2, 0xA002: 320, 0xA003: 240}
    place = {1: "N", 2: (50.0, 30.0, 1.0), 3: "E", 4: (6.0, 5.0, 2.0), 5: b"\0", 6: 100.0}
    for tags in (main, camera, place):
        for tag in rng.choice(list(tags), rng.integers(0, 3), replace=False):
            tags[int(tag)] = odd()
    exif.update(main)
    exif.get_ifd(0x8769).update(camera)
    exif.get_ifd(0x8825).update(place)
    content = b""
    while not content:
        try:
            content = exif.tobytes()
        except Exception:  # a value that Pillow can't write
            for tags in (exif, exif.get_ifd(0x8769), exif.get_ifd(0x8825)):
                for tag in [tag for tag, value in tags.items() if value in numbers]:
                    del tags[tag]
    if rng.random() < 0.5:
        content = content[:8] + mutate_bytes(content[8:], rng)
    image = Image.open(path)
    image.load()
    image.save(path, quality=95, exif=content[:60000])


def mutate_photo(path: Path, rng: Rng) -> None:
    """Saved in one of the formats, then its bytes mutated; or of an odd size or mode."""
    image = Image.open(path)
    image.load()
    format, suffix = pick(rng, [("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif"), ("WEBP", ".webp"), ("BMP", ".bmp"),
                                ("GIF", ".gif"), ("PPM", ".ppm"), ("TGA", ".tga"), ("JPEG2000", ".jp2")])  # fmt: skip
    if rng.random() < 0.2:
        image = image.resize(pick(rng, [(1, 1), (1, 300), (300, 1), (16, 16)]))
    if rng.random() < 0.2 and format in ("PNG", "TIFF"):
        image = image.convert(
            pick(rng, ["1", "L", "LA", "P", "RGBA", "I", *(["F", "CMYK"] if format == "TIFF" else [])])
        )
    path.unlink()
    path = path.with_suffix(suffix)
    image.save(path, format=format)
    if rng.random() < 0.8:
        mutate_file(path, rng)


Mutation = Callable[[Path, Rng], None]

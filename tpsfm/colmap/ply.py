"""Coloured points as PLY."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tpsfm.geometry import Model
from tpsfm.io.atomic import write_atomic


def write_ply(model: Model, path: str | Path, comments: Sequence[str] = ()) -> None:
    """The coloured points as binary PLY; a file that is there is replaced once the new one is complete."""
    layout = [(axis, "<f4") for axis in "xyz"] + [(color, "u1") for color in ("red", "green", "blue")]
    vertices = np.empty(len(model.points), layout)
    for column, axis in enumerate("xyz"):
        vertices[axis] = model.points[:, column]
    for column, color in enumerate(("red", "green", "blue")):
        vertices[color] = model.colors[:, column]
    types = {"<f4": "float", "u1": "uchar"}
    properties = "".join(f"property {types[kind]} {name}\n" for name, kind in layout)
    told = "".join(f"comment {comment}\n" for comment in comments)
    header = f"ply\nformat binary_little_endian 1.0\n{told}element vertex {len(vertices)}\n{properties}end_header\n"
    write_atomic(Path(path), header.encode() + vertices.tobytes())

"""Patches of a map's points in a file, so that a map whose photos are gone still has them."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np

from tpsfm.alignment.tracks import Patches
from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import write_atomic

_ARRAYS = {"pixels": np.uint8, "axes": np.float32, "jacobians": np.float32}


def write_patches(path: Path, patches: Patches, ids: np.ndarray) -> None:
    """Write the patches of points by their ids, int64 [P]; some 270 bytes a point.

    Raises:
        TpsfmError: the file can't be written.
    """
    known = patches.reference >= 0
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["ids"] = ids[known]
        for name, dtype in _ARRAYS.items():
            file[name] = getattr(patches, name)[known].astype(dtype)
    write_atomic(path, content.getvalue())


def read_patches_of(path: Path, ids: np.ndarray) -> Patches:
    """The patches of points of those ids, int64 [P]; `reference` is 0 where there is one and -1 where not.

    Raises:
        TpsfmError: the file is missing or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            stored = file["ids"][()]
            arrays = {name: file[name][()] for name in _ARRAYS}
            if any(len(array) != len(stored) for array in arrays.values()):
                raise ValueError
    except (OSError, KeyError, ValueError, RuntimeError):
        raise TpsfmError(f"{path} is missing or damaged; run 'tpsfm map' again") from None
    order = np.argsort(stored)
    place = np.searchsorted(stored[order], ids).clip(max=max(len(stored) - 1, 0))
    rows = order[place] if len(stored) else np.zeros(len(ids), int)
    known = stored[rows] == ids if len(stored) else np.zeros(len(ids), bool)
    found = {name: np.zeros((len(ids), *array.shape[1:]), array.dtype) for name, array in arrays.items()}
    for name, array in arrays.items():
        found[name][known] = array[rows[known]]
    return Patches(**found, reference=np.where(known, 0, -1))

"""Which photos a folder holds."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tpsfm.errors import TpsfmError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

log = logging.getLogger("tpsfm")


def list_images(folder: Path) -> list[str]:
    """The images below `folder`: sorted paths relative to it, with '/' whatever the platform.

    Hidden files and folders are passed over; a file that can't be decoded is listed all the same.

    Raises:
        TpsfmError: `folder` is missing, is not a folder, can't be read or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise TpsfmError(f"image folder {folder} {problem}")
    names = []
    for parent, folders, files in os.walk(folder, onerror=_unreadable_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if file.startswith(".") or not file.lower().endswith(IMAGE_SUFFIXES):
                continue
            name = (Path(parent) / file).relative_to(folder).as_posix()
            if is_portable(name):
                names.append(name)
            else:
                log.warning("skipped %r: rename it, its name is not UTF-8 or holds a tab or a line break", name)
    if not names:
        raise TpsfmError(f"no images in {folder}: it holds no file that ends in {' '.join(IMAGE_SUFFIXES)}")
    return sorted(names)


def is_portable(name: str) -> bool:
    """Whether `name` can stand in a pairs file, an HDF5 group and COLMAP's database."""
    return not any(character in "\0\t\n\r" or "\ud800" <= character <= "\udfff" for character in name)


def _unreadable_folder(error: OSError) -> None:
    raise TpsfmError(f"cannot read folder {error.filename}: {error.strerror}")

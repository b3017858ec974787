"""Files and folders that are replaced whole or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from tpsfm.errors import TpsfmError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8; after a crash or an error it is the old one or the new one.

    The content goes to a hidden file beside it, is synced to the disk and then takes its place.

    Raises:
        TpsfmError: it can't be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.part")
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise TpsfmError(f"cannot write {path}: {error.strerror or error}") from error


def replace_folder(new: Path, folder: Path) -> None:
    """Put a folder that is complete in the place of another, which may not exist.

    After a crash in between, the former folder lies beside it under the suffix ".old", and neither may be in place.

    Raises:
        TpsfmError: it can't be done.
    """
    old = folder.with_name(f"{folder.name}.old")
    try:
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise TpsfmError(f"cannot write {folder}: {error.strerror or error}") from error

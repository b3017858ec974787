"""Which photos a folder holds."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath
from unicodedata import normalize

from tpsfm.errors import TpsfmError

RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef",
    ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".srw", ".x3f",
)  # fmt: skip
IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
_NO_PHOTOS = (".thm", "_original", "~")  # previews of videos, copies that editors leave: images, but no photos
_STARTS = (  # of image files
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_HEAD = 32  # bytes that tell what a file is

log = logging.getLogger("tpsfm")
_told: set[str] = set()  # lines that this process has logged


def list_images(folder: Path, masks: Path | None = None) -> list[str]:
    """The images below `folder`: sorted paths relative to it, with '/' whatever the platform.

    A file is an image by its suffix or, with another suffix, by its content; one that can't be decoded is listed all
    the same. Linked folders are followed, each folder once. Left out are hidden files and folders, our own workspaces
    and results, masks that lie beside photos, and raw files of photos that are there as JPEG too; one line
    of the log "tpsfm" tells how many files were passed over.

    Args:
        folder: of the photos.
        masks: the folder of their masks, which may lie below.

    Raises:
        TpsfmError: `folder` is missing, is not a folder, can't be read or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise TpsfmError(f"image folder {folder} {problem}")
    names, passed = [], Counter[str]()
    for path in _files(folder, masks):
        name = path.relative_to(folder).as_posix()
        kind = _kind(path)
        if kind:
            passed[kind] += 1
        elif is_portable(name):
            names.append(name)
        else:
            log.warning("skipped %r: rename it, its name is not UTF-8 or holds a tab or a line break", name)
    names, doubles = _without_doubles(names)
    passed += doubles
    if passed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(passed.items()))
        _tell_once(f"{folder}: passed over {passed.total()} files that are no photos ({kinds})")
    if not names:
        holds = f"none of its {passed.total()} files is one" if passed else "it is empty"
        raise TpsfmError(f"no images in {folder}: {holds}")
    return sorted(names)


def is_portable(name: str) -> bool:
    """Whether `name` can stand in a pairs file, an HDF5 group and COLMAP's database."""
    return not any(character in "\0\t\n\r" or "\ud800" <= character <= "\udfff" for character in name)


def existing_name(folder: Path, name: str) -> str:
    """The name that a file has below a folder, whose letters with marks may be composed otherwise (NFC, NFD).

    Returns:
        `name` where there is no such file either.
    """
    if os.path.exists(folder / name):
        return name
    here, parts = folder, []
    for part in PurePosixPath(name).parts:
        entries = os.listdir(here) if os.path.isdir(here) else []
        same = [entry for entry in entries if normalize("NFC", entry) == normalize("NFC", part)]
        if not same:
            return name
        parts.append(same[0])
        here = here / same[0]
    return "/".join(parts)


def read_list(file: Path, folder: Path) -> list[str]:
    """The photos that a text file names, one a line, relative to `folder` or by their absolute paths.

    Empty lines and lines that begin with '#' are passed over; a photo may be named twice.

    Returns:
        Their sorted names, as `list_images` gives them.

    Raises:
        TpsfmError: the file can't be read or names none, or a line names no file below `folder`.
    """
    if not folder.is_dir():
        raise TpsfmError(f"image folder {folder} does not exist; the names in {file} are relative to it")
    names = set()
    for where, row in read_lines(file, "list of photos"):
        name = name_below(row, where, folder, "as IMAGES")
        if not (folder / name).is_file():
            raise TpsfmError(f"{where}: there is no photo {row[:200]!r} below {folder}")
        names.add(name)
    if not names:
        raise TpsfmError(f"{file} names no photo; write one name a line")
    return sorted(names)


def read_lines(file: Path, what: str) -> Iterator[tuple[str, str]]:
    """Where it stands and the text of each line of a list that is neither empty nor a comment.

    Raises:
        TpsfmError: the file can't be read or is no text.
    """
    try:
        rows = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise TpsfmError(f"cannot read the {what} {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise TpsfmError(f"{file} is not a {what}: it isn't text in UTF-8") from None
    for number, row in enumerate(rows, 1):
        if row.strip() and not row.strip().startswith("#"):
            yield f"row {number} of {file}", row.strip()


def name_below(text: str, where: str, folder: Path, remedy: str) -> str:
    """A path that a list names, relative to a folder and without "./", its letters composed as the file's are.

    Args:
        where: the line, for the error.
        remedy: how to name another folder.

    Raises:
        TpsfmError: it leads out of the folder, or can't stand in our files.
    """
    path = PurePath(text)
    for absolute in (os.path.abspath, os.path.realpath):
        with suppress(ValueError):
            path = PurePath(absolute(path)).relative_to(absolute(folder)) if path.is_absolute() else path
    if path.is_absolute() or ".." in path.parts:
        raise TpsfmError(f"{where}: '{text}' leads out of {folder}; name a folder above it {remedy}")
    if not is_portable(text):
        raise TpsfmError(f"{where}: rename {text!r}, it is not UTF-8 or holds a tab or a line break")
    return existing_name(folder, path.as_posix())


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix or its content."""
    return not _kind(path)


def _files(folder: Path, masks: Path | None) -> Iterator[Path]:
    """All files below a folder but for hidden ones and our own; linked folders are entered after the others."""
    entered = set()
    for parent, folders, files in os.walk(folder, onerror=_unreadable_folder, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        here = Path(parent)
        below = [here / name for name in folders if not name.startswith(".")]
        below = [path for path in below if not _is_ours(path) and not _same(path, masks)]
        folders[:] = [path.name for path in sorted(below, key=lambda path: (path.is_symlink(), path.name))]
        yield from (here / file for file in files if not file.startswith("."))


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a workspace, or the results of a localization."""
    names = ("photos.json", "features.h5", "database.db")
    workspace = (folder / "run.json").is_file() and any((folder / name).is_file() for name in names)
    return workspace or (folder / "localization.json").is_file()


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and other.is_dir() and folder.samefile(other)


def _kind(path: Path) -> str:
    """What a file is that is no photo, in a word or two; "" for a photo."""
    name, suffix = path.name.lower(), path.suffix.lower()
    other = suffix or "without suffix"
    if name.endswith(_NO_PHOTOS):
        return other
    if suffix in (*IMAGE_SUFFIXES, *RAW_SUFFIXES):
        return ""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        head = b""
    known = head.startswith(_STARTS) or head[4:12] in [b"ftyp" + brand for brand in _HEIF_BRANDS]
    return "" if known or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") else other


def _without_doubles(names: list[str]) -> tuple[list[str], Counter[str]]:
    """The names without those of masks (a.jpg.png where there is an a.jpg) and raw files beside another image."""
    files = {PurePosixPath(name).name for name in names}
    developed = {str(PurePosixPath(name).with_suffix("")) for name in names if not name.lower().endswith(RAW_SUFFIXES)}
    kept, doubles = [], Counter[str]()
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() == ".png" and path.stem in files:
            doubles["mask"] += 1
        elif path.suffix.lower() in RAW_SUFFIXES and str(path.with_suffix("")) in developed:
            doubles["raw beside another image"] += 1
        else:
            kept.append(name)
    return kept, doubles


def _tell_once(text: str) -> None:
    if text not in _told:
        _told.add(text)
        log.warning("%s", text)


def _unreadable_folder(error: OSError) -> None:
    raise TpsfmError(f"cannot read folder {error.filename}: {error.strerror}")

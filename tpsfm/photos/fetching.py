"""Photos in an object store: copied once into the workspace, where they are its photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import write_atomic
from tpsfm.io.workspace import digest
from tpsfm.parallel import in_parallel
from tpsfm.photos.listing import IMAGE_SUFFIXES, RAW_SUFFIXES, is_portable
from tpsfm.progress import Progress

FOLDER = "photos"  # in the workspace
_KNOWN = ".fetched"  # there: which version of each photo was copied, a line each
_AT_ONCE = 8  # photos


def local_folder(images: str | Path, root: Path, progress: Progress) -> Path:
    """The folder of photos; where `images` is a URL, `root`/photos with copies of the photos below it.

    Photos are known by their suffixes. Only those that are new or that the store says have changed (in size, time or
    tag) are copied; those that are gone there are removed here.

    Args:
        images: a path, returned as it is; or "s3://bucket/photos", "gs://..." or another URL of fsspec's.
        root: of the workspace.

    Raises:
        TpsfmError: the URL can't be listed or read, or there are no photos.
    """
    url = str(images)
    if "://" not in url:
        return Path(images)
    folder = root / FOLDER
    try:
        from fsspec.core import url_to_fs

        files, top = url_to_fs(url)
        files.invalidate_cache()
        found = files.find(top, detail=True)
    except Exception as error:  # each store has errors of its own
        raise TpsfmError(f"cannot list {url}: {_said(error)}") from error
    photos = {
        name: (path, digest(sorted((key, str(value)) for key, value in status.items())))
        for path, status in found.items()
        if _is_photo(name := path.removeprefix(top.rstrip("/")).lstrip("/"))
    }
    if not photos:
        raise TpsfmError(f"no images at {url}: none of its {len(found)} files has the suffix of one")
    folder.mkdir(exist_ok=True)
    known = _known(folder / _KNOWN)
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name != _KNOWN]:
        if path.relative_to(folder).as_posix() not in photos:
            path.unlink()
    todo = {
        name: (path, version)
        for name, (path, version) in photos.items()
        if known.get(name) != version or not (folder / name).exists()
    }
    kept = (f"{name}\t{version}\n" for name, (_, version) in photos.items() if name not in todo)
    write_atomic(folder / _KNOWN, "".join(kept))
    if not todo:
        return folder

    def fetch(name: str, path: str) -> None:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        try:
            files.get_file(path, str(partial))
            os.replace(partial, target)
        except Exception as error:
            raise TpsfmError(f"cannot copy {url.rstrip('/')}/{name} to {target}: {_said(error)}") from error

    jobs = ((name, (name, path)) for name, (path, _) in todo.items())
    with progress.bar("fetching", len(todo)) as update, open(folder / _KNOWN, "a", encoding="utf-8") as lines:
        for done, (name, _) in enumerate(in_parallel(fetch, jobs, _AT_ONCE), 1):
            print(name, todo[name][1], sep="\t", file=lines, flush=True)
            update(done, len(todo))
    return folder


def _is_photo(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return name.lower().endswith((*IMAGE_SUFFIXES, *RAW_SUFFIXES)) and not hidden and is_portable(name)


def _known(file: Path) -> dict[str, str]:
    """The versions by name; a kill may have left the file without the end of its last line."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").rpartition("\n")[0].split("\n")
    return dict(line.split("\t") for line in lines if line)


def _said(error: Any) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

"""Masks: where in a photo keypoints may lie."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.photos.listing import IMAGE_SUFFIXES
from tpsfm.photos.orientation import as_stored
from tpsfm.photos.photo import Photo
from tpsfm.photos.pixels import decode, open_image

_NAMED = 3  # files that a line names


class Masks:
    """The masks of photos: images in a folder, black where no keypoint may lie.

    The mask of `a/b.jpg` is `a/b.jpg.png`, as COLMAP names it, else `a/b.png`, or such a file of another format; of
    photos whose file names are unique also one that lies in no sub-folder.

    Args:
        folder: of the masks.
        images: the folder of the photos.
        names: of the photos.

    Attributes:
        found: the mask's file by the photo's name.
        unused: files that are no photo's mask.

    Raises:
        TpsfmError: there is no such folder.
    """

    def __init__(self, folder: Path, images: Path, names: Sequence[str]) -> None:
        if not folder.is_dir():
            raise TpsfmError(f"no folder of masks {folder}")
        self.folder, self._photos = folder, len(names)
        files = _images_below(folder)
        photos = set(names) if images.is_dir() and folder.samefile(images) else set()
        unused = {key: file for key, file in files.items() if file not in photos}
        self.found: dict[str, Path] = {}
        bases = Counter(PurePosixPath(name).name for name in names)
        for name in names:
            base = PurePosixPath(name).name
            keys = (*_keys(name), *(_keys(base) if bases[base] == 1 else ()))
            file = next((unused[key] for key in keys if key in unused), None)
            if file is not None:
                self.found[name] = folder / file
        used = set(self.found.values())
        self.unused = sorted(file for file in unused.values() if folder / file not in used)
        self._without = [name for name in names if name not in self.found]

    @property
    def complete(self) -> bool:
        """Whether each photo has a mask, and each mask a photo."""
        return not (self._without or self.unused)

    def summary(self) -> str:
        """How many photos have a mask, and what doesn't fit, in a line."""
        parts = [f"masks: {len(self.found)} of {self._photos} photos have one in {self.folder}"]
        if self._without:
            parts.append(f"without: {_listed(self._without)}")
        if self.unused:
            parts.append(f"of no photo: {_listed(self.unused)}")
        if not self.found:
            parts.append(f"the mask of {self._without[0]} would be {self._without[0]}.png")
        return "; ".join(parts)

    def read(self, photo: Photo) -> np.ndarray | None:
        """The mask of a photo, bool [H, W] of `photo.decoded_size`: False where no keypoint may lie; None without one.

        A mask is in pixels of the photo as stored, or upright if only that has its proportions.

        Raises:
            TpsfmError: it can't be read or is not in proportion to the photo.
        """
        path = self.found.get(photo.name)
        if path is None:
            return None
        mask = _read(path)
        rows, columns = mask.shape
        if _in_proportion((columns, rows), photo.size):
            mask = mask[:, ::-1] if photo.mirrored else mask
        elif photo.seen_size != photo.size and _in_proportion((columns, rows), photo.seen_size):
            mask = as_stored(mask, photo.orientation)
        else:
            raise TpsfmError(
                f"mask {path} is {columns}x{rows} but its photo is stored as {photo.width}x{photo.height} (EXIF"
                " orientation ignored); give it the same proportions"
            )
        return _resized(mask, photo.decoded_size)


def _read(path: Path) -> np.ndarray:
    """bool [H, W]: where an image is not black or, if its alpha channel varies, not transparent."""
    with open_image(path) as image:
        if "A" in image.getbands() or "transparency" in image.info:
            alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
            if np.ptp(alpha):
                return alpha > 0
        lossy = image.format in ("JPEG", "MPO")  # its black is not quite black
        allowed = np.atleast_3d(decode(image) > (127 if lossy else 0))
    return np.logical_or.reduce(allowed, axis=2)


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The nearest pixels of a mask."""
    (width, height), (rows, columns) = size, mask.shape
    y = (2 * np.arange(height) + 1) * rows // (2 * height)
    x = (2 * np.arange(width) + 1) * columns // (2 * width)
    return mask[y[:, None], x]


def _in_proportion(size: tuple[int, int], other: tuple[int, int]) -> bool:
    width, height = other
    return abs(width * size[1] - height * size[0]) <= 0.01 * width * size[1] + max(width, height)


def _images_below(folder: Path) -> dict[str, str]:
    """Images below a folder, their paths relative to it, by the path in lower case."""
    files = {}
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                path = (Path(parent) / name).relative_to(folder).as_posix()
                files[path.lower()] = path
    return files


def _keys(name: str) -> list[str]:
    """The names that a photo's mask may have, in lower case, the likeliest first."""
    name = name.lower()
    stem = str(PurePosixPath(name).with_suffix(""))
    suffixes = (".png", *(suffix for suffix in IMAGE_SUFFIXES if suffix != ".png"))
    return [*(name + suffix for suffix in suffixes), *(stem + suffix for suffix in suffixes)]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"

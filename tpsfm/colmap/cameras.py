"""Which photos share one camera, and what is known of it beforehand."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import PurePosixPath
from statistics import median

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera
from tpsfm.photos import Photo

CAMERA_MODES = ("auto", "single", "per-folder", "per-image")


def group_cameras(
    photos: Mapping[str, Photo], mode: str = "auto", given: Mapping[str, Camera] | None = None
) -> dict[str, int]:
    """Which camera took each photo.

    `auto` shares intrinsics among photos of one device (EXIF make and model), focal length and size. A photo whose
    EXIF tells no focal length gets its own camera; those that turn out to be of one share it later, by `share_cameras`.

    Args:
        photos: by image name.
        mode: one of `CAMERA_MODES`.
        given: known cameras by image name; photos share one where that is the same, but for the modes that part them.

    Returns:
        A camera's number by image name; numbers count from 0 in the order of the sorted names, the given cameras first.

    Raises:
        TpsfmError: the mode is unknown, or photos that it makes share a camera differ in size.
    """
    if mode not in CAMERA_MODES:
        raise TpsfmError(f"no camera mode '{mode}'; there are: {', '.join(CAMERA_MODES)}")
    numbers: dict[Hashable, int] = {}
    first: dict[int, str] = {}
    camera_of = {}
    given = given or {}
    for name in sorted(photos, key=lambda name: (name not in given, name)):
        photo = photos[name]
        number = numbers.setdefault(_key(name, photo, mode, given.get(name)), len(numbers))
        camera_of[name] = number
        other = photos[first.setdefault(number, name)]
        if photo.size != other.size:
            raise TpsfmError(
                f"one camera for '{first[number]}' ({other.width}x{other.height}) and '{name}' "
                f"({photo.width}x{photo.height}) can't be: their sizes differ; use the camera mode 'auto'"
            )
    return camera_of


def possible_groups(photos: Mapping[str, Photo]) -> list[list[str]]:
    """Names of photos that may be of one camera though EXIF tells no focal length: of one folder, device and size."""
    groups: dict[Hashable, list[str]] = {}
    for name in sorted(photos):
        photo = photos[name]
        if photo.focal_px is None:
            key = (PurePosixPath(name).parent, photo.make, photo.model, photo.zoom, photo.size)
            groups.setdefault(key, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def initial_focal(photos: Iterable[Photo]) -> tuple[float, bool]:
    """The focal length to start from, for photos of one camera.

    Returns:
        (focal length in pixels, whether EXIF told it); without EXIF a guess of 1.2 times the longer side.
    """
    photos = list(photos)
    known = [photo.focal_px for photo in photos if photo.focal_px]
    if known:
        return float(median(known)), True
    return 1.2 * max(photos[0].size), False


def _key(name: str, photo: Photo, mode: str, given: Camera | None) -> Hashable:
    if given is not None:
        apart = {"per-folder": str(PurePosixPath(name).parent), "per-image": name}.get(mode)
        return given.model, given.width, given.height, tuple(given.params), apart
    if mode == "single":
        return "single"
    if mode == "per-folder":
        return str(PurePosixPath(name).parent)
    if mode == "auto":
        return photo.camera_key if photo.focal_px else ("image", name)
    return ("image", name)

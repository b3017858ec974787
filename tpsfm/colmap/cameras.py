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
    sizes: dict[int, dict[tuple[int, int], list[str]]] = {}
    camera_of = {}
    given = given or {}
    for name in sorted(photos, key=lambda name: (name not in given, name)):
        photo = photos[name]
        number = numbers.setdefault(_key(name, photo, mode, given.get(name)), len(numbers))
        camera_of[name] = number
        sizes.setdefault(number, {}).setdefault(photo.size, []).append(name)
    for unlike in sizes.values():
        if len(unlike) > 1:
            raise TpsfmError(_unlike(photos, unlike, mode))
    return camera_of


def _unlike(photos: Mapping[str, Photo], sizes: Mapping[tuple[int, int], list[str]], mode: str) -> str:
    """Why photos of several sizes can't share a camera."""
    of = [
        f"{width}x{height} ({names[0]}" + (f" and {len(names) - 1} more)" if len(names) > 1 else ")")
        for (width, height), names in sorted(sizes.items(), key=lambda item: -len(item[1]))
    ]
    text = f"the camera mode '{mode}' can't be: the photos are {', '.join(of[:4])}{' ...' * (len(of) > 4)}"
    names = [name for group in sizes.values() for name in group]
    turned = [name for name in names if photos[name].orientation in (6, 8)]
    if turned and len({photos[name].seen_size for name in names}) == 1:
        text += (
            f"; they are alike only once EXIF orientation turns {len(turned)} of them ({turned[0]} ...), but a camera"
            " is that of the photos as they are stored"
        )
    return f"{text}; use the camera mode 'auto'"


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

"""Which photos share one camera, and what is known of it beforehand."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import PurePosixPath
from statistics import median

from tpsfm.colmap.loading import pycolmap
from tpsfm.errors import TpsfmError
from tpsfm.geometry.model import CAMERA_MODELS as _MODELS
from tpsfm.geometry.model import Camera
from tpsfm.photos.images import ImageInfo

CAMERA_MODELS = tuple(name for name, *_ in _MODELS.values())
CAMERA_MODES = ("auto", "single", "per-folder", "per-image")


def group_cameras(infos: Mapping[str, ImageInfo], mode: str = "auto") -> dict[str, int]:
    """Which camera took each photo.

    `auto` shares intrinsics among photos of one device (EXIF make and model), focal length and size. A photo without
    EXIF gets its own camera, as in COLMAP; give `single` or `per-folder` for the frames of a video.

    Args:
        infos: by image name.
        mode: one of `CAMERA_MODES`.

    Returns:
        A camera's number by image name; numbers count from 0 in the order of the sorted names.

    Raises:
        TpsfmError: the mode is unknown, or photos that it makes share a camera differ in size.
    """
    if mode not in CAMERA_MODES:
        raise TpsfmError(f"no camera mode '{mode}'; there are: {', '.join(CAMERA_MODES)}")
    numbers: dict[Hashable, int] = {}
    first: dict[int, str] = {}
    camera_of = {}
    for name in sorted(infos):
        info = infos[name]
        number = numbers.setdefault(_key(name, info, mode), len(numbers))
        camera_of[name] = number
        other = infos[first.setdefault(number, name)]
        if (info.width, info.height) != (other.width, other.height):
            raise TpsfmError(
                f"one camera for '{first[number]}' ({other.width}x{other.height}) and '{name}' "
                f"({info.width}x{info.height}) can't be: their sizes differ; use the camera mode 'auto'"
            )
    return camera_of


def initial_focal(infos: Iterable[ImageInfo]) -> tuple[float, bool]:
    """The focal length to start from, for photos of one camera.

    Returns:
        (focal length in pixels, whether EXIF told it); without EXIF a guess of 1.2 times the longer side.
    """
    infos = list(infos)
    known = [info.focal_px for info in infos if info.focal_px]
    if known:
        return float(median(known)), True
    return 1.2 * max(infos[0].width, infos[0].height), False


def _key(name: str, info: ImageInfo, mode: str) -> Hashable:
    if mode == "single":
        return "single"
    if mode == "per-folder":
        return str(PurePosixPath(name).parent)
    if mode == "auto":
        return device(info) or ("image", name)
    return ("image", name)


def device(info: ImageInfo) -> Hashable | None:
    """What photos of one device, focal length and size have in common, None without EXIF."""
    if not (info.make or info.model or info.focal_px):
        return None
    return (info.make, info.model, info.focal_px and round(info.focal_px), info.width, info.height)


def to_colmap(camera: Camera, camera_id: int = 1) -> pycolmap.Camera:
    """COLMAP's own object of a camera."""
    return pycolmap.Camera(
        camera_id=camera_id, model=camera.model, width=camera.width, height=camera.height, params=camera.params
    )

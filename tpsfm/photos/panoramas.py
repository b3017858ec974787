"""360-degree photos (equirectangular) cut into perspective views, which look out from one point: a rig."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry import quaternion, rotation_about
from tpsfm.photos.listing import list_images
from tpsfm.photos.pixels import open_image, read_image, stored_size

VIEWS, FIELD = 6, 75.0  # around the horizon; degrees that each shows across and along
_QUALITY = 95  # of their JPEGs


def cut_panoramas(
    images: Path, out: Path, progress: Callable[[int, int], object] | None = None
) -> tuple[int, list[float]]:
    """Write the views of all panoramas below a folder, `photos/view_0/NAME.jpg` and so on, and COLMAP's `rig.json`.

    A view has the photo's GPS and as many pixels a degree as the photo has along the horizon.

    Args:
        images: folder of the panoramas.
        out: a new folder.
        progress: called with how many of how many are done.

    Returns:
        How many panoramas there are; width, height and the parameters of the views' PINHOLE camera, COLMAP's.

    Raises:
        TpsfmError: the folder has no photo, one isn't twice as wide as high or of another size than the others, or
            `out` holds files or can't be written.
    """
    names = list_images(images)
    if out.exists() and any(out.iterdir()):
        raise TpsfmError(f"{out} holds files already; name a new folder")
    sizes = {}
    for name in names:
        with open(images / name, "rb") as file, open_image(images / name, file) as image:
            sizes[name] = stored_size(image)
        if sizes[name][0] != 2 * sizes[name][1]:
            size = "x".join(map(str, sizes[name]))
            raise TpsfmError(f"{images / name} is {size}; a 360-degree photo is twice as wide as high")
    if len(set(sizes.values())) > 1:
        raise TpsfmError(f"the photos in {images} have {len(set(sizes.values()))} sizes; cut those of a camera apart")
    width = sizes[names[0]][0]
    focal = width / (2 * math.pi)
    side = round(2 * focal * math.tan(math.radians(FIELD / 2)))
    lookups = [_lookup(view_rotation(view), side, focal, width) for view in range(VIEWS)]
    for done, name in enumerate(names):
        pixels = read_image(images / name)
        around = np.concatenate([pixels, pixels[:, :1]], 1)  # the seam
        for view, lookup in enumerate(lookups):
            cut = cv2.remap(around, *lookup, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            jpeg = name if Path(name).suffix.lower() in (".jpg", ".jpeg") else f"{name}.jpg"
            _write(cut, out / "photos" / f"view_{view}" / jpeg, images / name)
        if progress:
            progress(done + 1, len(names))
    params = [focal, focal, side / 2, side / 2]
    cameras = [
        {
            "image_prefix": f"view_{view}/",
            **({"cam_from_rig_rotation": quaternion(view_rotation(view)).tolist()} if view else {"ref_sensor": True}),
            **({"cam_from_rig_translation": [0, 0, 0]} if view else {}),
        }
        for view in range(VIEWS)
    ]
    (out / "rig.json").write_text(json.dumps([{"cameras": cameras}], indent=1))
    return len(names), [side, side, *params]


def view_rotation(view: int) -> np.ndarray:
    """float64 [3, 3], from the panorama's frame (x right, y down, z to its middle) to that of a view."""
    return rotation_about(np.array([0.0, 1, 0]), -2 * math.pi * view / VIEWS)


def _lookup(rotation: np.ndarray, side: int, focal: float, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the panorama, float32 [side, side] each, that a view shows."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    right, down, ahead = np.moveaxis(np.stack([x / focal, y / focal, np.ones_like(x)], -1) @ rotation, -1, 0)
    columns = focal * np.arctan2(right, ahead) + (width - 1) / 2
    rows = focal * np.arctan2(down, np.hypot(right, ahead)) + (width / 2 - 1) / 2
    return (columns % width).astype(np.float32), rows.astype(np.float32)


def _write(pixels: np.ndarray, path: Path, source: Path) -> None:
    """Write a view as a JPEG with the place of its panorama."""
    from PIL import ExifTags, Image

    exif = Image.Exif()
    with Image.open(source) as photo:
        gps = photo.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    if gps:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=_QUALITY, exif=exif)
    except OSError as error:
        raise TpsfmError(f"can't write {path}: {error.strerror or error}") from None

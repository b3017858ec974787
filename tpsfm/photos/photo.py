"""A photo as one record: all that a single visit to its file tells."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.photos import exif, xmp
from tpsfm.photos.depth import Levels
from tpsfm.photos.orientation import UNMIRRORED
from tpsfm.photos.pixels import decoded_size, is_deep, open_image, read_image, stored_size
from tpsfm.photos.raw import is_raw, raw_header

SNAPSHOT = "tpsfm snapshot"  # the "Software" of a PNG that is a picture of a map
CUT_FIRST = "cut such photos into views first: tpsfm panoramas PHOTOS VIEWS"
_BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Photo:
    """What is known of a photo without its pixels. Bare pixels have a width and a height alone.

    Attributes:
        width, height: pixels as stored, EXIF orientation ignored.
        orientation: 1, 3, 6 or 8: the EXIF orientation of the pixels as `decode` gives them; 1 where the file has none.
        mirrored: whether the file holds the mirror image (EXIF orientation 2, 4, 5 or 7); `decode` mirrors it back.
        make, model: of the camera; "" where unknown.
        focal_px: focal length in pixels by EXIF, or None.
        zoom: digital zoom by EXIF, 1 where there is none.
        gps: (latitude, longitude) in degrees, altitude in metres (nan where unknown), WGS84; or None.
        gps_deviation: its standard deviation east, north and up in metres, nan where unknown; or None.
        relative_altitude: metres above take-off by a drone's XMP; or None.
        up: what is up in the camera's frame (x right, y down, z ahead) by a drone's gimbal; or None.
        turn: degrees clockwise, beyond what `orientation` says, by which it is seen as other photos are.
        name: its path below the folder of photos, with '/'.
        digest: hex digest of the file's content.
        deep: whether it has more than 8 bits a channel.
        levels: of a deep photo, the values that `decode` makes black and white; None takes what suits it alone.
        path: the file.
    """

    width: int
    height: int
    orientation: int = 1
    mirrored: bool = False
    make: str = ""
    model: str = ""
    focal_px: float | None = None
    zoom: float = 1.0
    gps: tuple[float, float, float] | None = None
    gps_deviation: tuple[float, float, float] | None = None
    relative_altitude: float | None = None
    up: tuple[float, float, float] | None = None
    turn: int = 0
    name: str = ""
    digest: str = ""
    deep: bool = False
    levels: Levels | None = None
    path: Path | None = field(default=None, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    @property
    def seen_size(self) -> tuple[int, int]:
        """(width, height) of the photo upright, as its EXIF orientation says."""
        return self.size[::-1] if self.orientation in (6, 8) else self.size

    @property
    def content(self) -> str:
        """Digest of all that its pixels depend on."""
        if self.levels is None and not self.mirrored:
            return self.digest
        return f"{self.digest} {self.levels} {self.mirrored}"

    @property
    def camera_key(self) -> Hashable | None:
        """Equal for photos of one device, focal length, digital zoom and size; None without EXIF."""
        if not (self.make or self.model or self.focal_px):
            return None
        return (self.make, self.model, self.focal_px and round(self.focal_px), self.zoom, *self.size)

    @property
    def decoded_size(self) -> tuple[int, int]:
        """(width, height) of what `decode` gives."""
        return decoded_size(self.size)

    def decode(self, least: int | None = None) -> np.ndarray:
        """Its pixels, uint8 [H, W, 3] RGB or [H, W] grey, as stored but for mirrored ones, which are mirrored back.

        Those of very large photos are reduced: to `decoded_size`.

        Args:
            least: pixels that the longer side is to have at least; a larger JPEG is decoded to a half, a quarter or an
                eighth of its size then, which is faster. None decodes all.

        Raises:
            TpsfmError: the file can't be read, is truncated or is not an image.
        """
        if self.path is None:
            raise TpsfmError(f"the photo '{self.name}' has no file")
        pixels = read_image(self.path, self.levels, least)
        return np.ascontiguousarray(pixels[:, ::-1]) if self.mirrored else pixels


def read_photo(path: Path, name: str = "") -> Photo:
    """The record of a photo; the file is opened once, and its pixels are not decoded.

    Raises:
        TpsfmError: the file can't be read or is not an image.
    """
    try:
        with open(path, "rb") as file:
            digest = _digest(file)
            file.seek(0)
            if is_raw(path):
                return _raw_photo(path, file, name, digest)
            with open_image(path, file) as image:
                if image.info.get("Software") == SNAPSHOT:
                    raise TpsfmError(f"{path} is a picture of a map, not a photo")
                if xmp.is_panorama(image):
                    raise TpsfmError(f"{path} is a 360-degree photo; {CUT_FIRST}")
                tags, dji = exif.read_tags(image), xmp.read_dji(image)
                photo = _photo(path, name, digest, stored_size(image), exif.orientation(tags), tags)
                return replace(
                    photo,
                    deep=is_deep(image),
                    gps_deviation=xmp.deviation(dji) or photo.gps_deviation,
                    relative_altitude=dji.get("RelativeAltitude"),
                    up=xmp.up_by_gimbal(dji),
                )
    except OSError as error:
        raise TpsfmError(f"cannot read image {path}: {error.strerror or error}") from error


def _photo(
    path: Path, name: str, digest: str, size: tuple[int, int], orientation: int, tags: Mapping[str, Any]
) -> Photo:
    make, model = exif.camera(tags)
    return Photo(
        *size,
        orientation=UNMIRRORED.get(orientation, orientation),
        mirrored=orientation in UNMIRRORED,
        make=make,
        model=model,
        focal_px=exif.focal_px(tags, *size),
        zoom=exif.zoom(tags),
        gps=exif.gps(tags),
        gps_deviation=exif.gps_deviation(tags),
        name=name or Path(path).name,
        digest=digest,
        path=Path(path),
    )


def _raw_photo(path: Path, file: BinaryIO, name: str, digest: str) -> Photo:
    """The record of a raw photo; its EXIF is read where the file is a kind of TIFF, as most are."""
    width, height, orientation = raw_header(path)
    tags: dict[str, Any] = {}
    with suppress(TpsfmError), open_image(path, file) as image:
        tags = exif.read_tags(image)
    return _photo(path, name, digest, (width, height), orientation, tags)


def file_digest(path: Path) -> str:
    """Hex digest of a file's content.

    Raises:
        TpsfmError: the file can't be read.
    """
    try:
        with open(path, "rb") as file:
            return _digest(file)
    except OSError as error:
        raise TpsfmError(f"cannot read {path}: {error.strerror or error}") from error


def _digest(file: BinaryIO) -> str:
    digest = hashlib.blake2b(digest_size=16)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()

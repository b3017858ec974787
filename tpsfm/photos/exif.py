"""What a photo's EXIF tells: orientation, camera, focal length, place."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

from tpsfm.photos.orientation import ORIENTATIONS
from tpsfm.photos.pixels import DAMAGED

_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}  # FocalPlaneResolutionUnit
_DIAGONAL_35MM = math.hypot(36, 24)
_FIELD_OF_VIEW = (5.0, 150.0)  # degrees along the longer side, of cameras that there are

log = logging.getLogger("tpsfm")


def read_tags(image: Image.Image) -> dict[str, Any]:
    """EXIF tags by name, GPS among them; of damaged EXIF what can be read, for the photo is still a photo."""
    tags: dict[str, Any] = {}
    try:
        exif = image.getexif()
        for ifd in (exif, exif.get_ifd(ExifTags.IFD.Exif)):
            tags |= {ExifTags.TAGS[tag]: value for tag, value in ifd.items() if tag in ExifTags.TAGS}
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        tags |= {ExifTags.GPSTAGS[tag]: value for tag, value in gps.items() if tag in ExifTags.GPSTAGS}
    except DAMAGED as error:
        log.debug("damaged EXIF in %s: %s", getattr(image, "filename", "an image"), error)
    return tags


def orientation(tags: Mapping) -> int:
    """1 to 8; 1 where it is absent or out of range."""
    value = tags.get("Orientation")
    return value if isinstance(value, int) and value in ORIENTATIONS else 1


def camera(tags: Mapping) -> tuple[str, str]:
    """Make and model, "" where unknown."""
    return _text(tags.get("Make")), _text(tags.get("Model"))


def focal_px(tags: Mapping, width: int, height: int) -> float | None:
    """Focal length in pixels: by its 35 mm equivalent (over the diagonal), else by the sensor's resolution.

    None where neither gives a field of view that a camera may have, and where the zoom is digital: cameras differ in
    whether they tell the focal length with it or without.
    """
    if zoom(tags) != 1:
        return None
    equivalent = _number(tags.get("FocalLengthIn35mmFilm")) / _DIAGONAL_35MM * math.hypot(width, height)
    density = _number(tags.get("FocalPlaneXResolution"))  # pixels a unit, of the photo as taken
    unit = _MILLIMETRES.get(tags.get("FocalPlaneResolutionUnit", 2), math.nan)
    taken = max(_number(tags.get(f"ExifImage{side}"), 0.0) for side in ("Width", "Height"))
    resized = max(width, height) / taken if taken > 0 else 1.0
    by_sensor = _number(tags.get("FocalLength")) * density / unit * resized
    return next((focal for focal in (equivalent, by_sensor) if _is_possible(focal, max(width, height))), None)


def _is_possible(focal: float, longer: int) -> bool:
    """Whether a focal length gives the longer side of a photo, both in pixels, a field of view that there is."""
    narrowest, widest = _FIELD_OF_VIEW
    return focal > 0 and narrowest <= 2 * math.degrees(math.atan(longer / 2 / focal)) <= widest


def zoom(tags: Mapping) -> float:
    """The digital zoom; 1 where there is none."""
    ratio = _number(tags.get("DigitalZoomRatio"))
    return round(ratio, 2) if ratio > 0 else 1.0


def gps(tags: Mapping) -> tuple[float, float, float] | None:
    """(latitude, longitude) in degrees, altitude in metres (nan if unknown); None where there is no fix."""
    latitude, longitude = (
        _degrees(tags.get(f"GPS{axis}"), tags.get(f"GPS{axis}Ref")) for axis in ("Latitude", "Longitude")
    )
    # Cameras without a fix write zeros.
    if not (abs(latitude) <= 90 and abs(longitude) <= 180) or latitude == longitude == 0:
        return None
    altitude = _number(tags.get("GPSAltitude"))
    below = tags.get("GPSAltitudeRef") in (1, b"\x01")
    return latitude, longitude, -altitude if below else altitude


def gps_deviation(tags: Mapping) -> tuple[float, float, float] | None:
    """Standard deviation east, north and up in metres by the horizontal error; the last is nan, and None if unknown."""
    error = _number(tags.get("GPSHPositioningError"))
    return (error / math.sqrt(2), error / math.sqrt(2), math.nan) if error > 0 else None


def _degrees(value: object, hemisphere: object) -> float:
    """Degrees from (degrees, minutes, seconds), negative in the south and west; nan where malformed."""
    if not isinstance(value, tuple) or len(value) != 3:
        return math.nan
    degrees, minutes, seconds = (_number(part) for part in value)
    sign = -1 if _text(hemisphere).upper() in ("S", "W") else 1
    return sign * (degrees + minutes / 60 + seconds / 3600)


def _number(value: Any, default: float = math.nan) -> float:
    """A tag's value as a finite number, `default` where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return default
    return number if math.isfinite(number) else default


def _text(value: object) -> str:
    return value.replace("\0", "").strip() if isinstance(value, str) else ""

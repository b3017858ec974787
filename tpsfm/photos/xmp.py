"""What a photo's XMP tells beside its EXIF: a drone's height, accuracy and gimbal; whether it shows all around."""

from __future__ import annotations

import math
import re

from PIL import Image

_TAG = 700  # of XMP in TIFF
_DJI = re.compile(rb'drone-dji:(\w+)(?:\s*=\s*"([^"]*)"|>([^<]*)<)')
_EQUIRECTANGULAR = re.compile(rb'GPano:ProjectionType(?:\s*=\s*"|>)equirectangular["<]')
_DEVIATIONS = ("RtkStdLon", "RtkStdLat", "RtkStdHgt")
_RTK = (34, 50)  # RtkFlag of a float and a fixed solution; 0 is none, 16 a single point's


def read_dji(image: Image.Image) -> dict[str, float]:
    """The numbers in DJI's part of a photo's XMP by name, as `RelativeAltitude`; none where there is no such part."""
    values = {}
    for name, attribute, element in _DJI.findall(_packet(image)):
        try:
            number = float(attribute or element)
        except ValueError:
            continue
        if math.isfinite(number):
            values[name.decode()] = number
    return values


def deviation(dji: dict[str, float]) -> tuple[float, float, float] | None:
    """The standard deviation of an RTK position east, north and up, metres; None where the position is no RTK's."""
    values = [dji.get(name, 0.0) for name in _DEVIATIONS]
    if dji.get("RtkFlag") not in _RTK or min(values) <= 0:
        return None
    return values[0], values[1], values[2]


def up_by_gimbal(dji: dict[str, float]) -> tuple[float, float, float] | None:
    """What is up, in the frame of the camera (x right, y down, z ahead), of length 1; None where it isn't told."""
    if not {"GimbalPitchDegree", "GimbalRollDegree"} <= dji.keys():
        return None
    pitch, roll = (math.radians(dji[f"Gimbal{axis}Degree"]) for axis in ("Pitch", "Roll"))  # pitch: -90 looks down
    return -math.cos(pitch) * math.sin(roll), -math.cos(pitch) * math.cos(roll), math.sin(pitch)


def is_panorama(image: Image.Image) -> bool:
    """Whether a photo shows all around, by Google's part of its XMP."""
    return _EQUIRECTANGULAR.search(_packet(image)) is not None and image.width == 2 * image.height


def _packet(image: Image.Image) -> bytes:
    packet = image.info.get("xmp") or getattr(image, "tag_v2", {}).get(_TAG) or b""
    return packet.encode() if isinstance(packet, str) else bytes(packet)

"""The camera of a query: given, known to the map, told by EXIF, or to be found out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from tpsfm.errors import TpsfmError
from tpsfm.geometry import CAMERA_MODELS, Camera
from tpsfm.photos import Photo

# Focal lengths to try, in longer sides of the photo: from a field of view of 96 degrees to one of 14, each 1.25 times
# the one before, so that one of them is within 12 % of the truth.
FOCALS = tuple(0.45 * 1.25**step for step in range(11))


@dataclass(frozen=True)
class Intrinsics:
    """What is known of a query's camera.

    Attributes:
        source: "given", "map" (a photo of the map by the same device and of the same size), "exif" or "estimated".
        candidates: cameras to try; more than one where it is estimated.
    """

    source: str
    candidates: list[Camera]

    @property
    def approximate(self) -> bool:
        """Whether the focal length and distortion are to be refined with the pose."""
        return self.source in ("exif", "estimated")


def intrinsics_of(photo: Photo, given: Camera | None, known: Mapping[Hashable, Camera]) -> list[Intrinsics]:
    """What a query's camera may be, in the order in which it is to be tried: EXIF is not always true.

    Args:
        photo: the query.
        given: the user's own camera.
        known: the map's cameras by `Photo.camera_key`, and by (width, height), each the one that sees most points.

    Raises:
        TpsfmError: the given camera is of another size than the photo.
    """
    size = photo.size
    if given is not None:
        if (given.width, given.height) != size:
            raise TpsfmError(
                f"its camera is given for {given.width}x{given.height} pixels, but the photo has {size[0]}x{size[1]}"
            )
        return [Intrinsics("given", [given])]
    ways = []
    if photo.camera_key in known:
        ways.append(Intrinsics("map", [known[photo.camera_key]]))
    elif photo.focal_px:
        ways.append(Intrinsics("exif", [simple_camera(photo.focal_px, *size)]))
    candidates = [simple_camera(factor * max(size), *size) for factor in FOCALS]
    return [*ways, Intrinsics("estimated", [known[size], *candidates] if size in known else candidates)]


def simple_camera(focal: float, width: int, height: int) -> Camera:
    """A camera without distortion whose principal point is the image's middle; `focal` in pixels."""
    return Camera("SIMPLE_RADIAL", width, height, [float(focal), (width - 1) / 2, (height - 1) / 2, 0.0])


def parse_camera(text: str) -> tuple[str, list[float]]:
    """Camera model and parameters from "MODEL,p1,p2,...", as COLMAP writes them, in its pixels.

    Raises:
        TpsfmError: the model is unknown, a parameter is no number, or their count is wrong.
    """
    model, *values = (part.strip() for part in text.split(","))
    return model, check_parameters(model, values, f"the camera '{text}'")


def check_parameters(model: str, values: Sequence[str | float], what: str) -> list[float]:
    """The parameters of a camera model as numbers; `what` names their place in the error's text."""
    if model not in CAMERA_MODELS:
        raise TpsfmError(f"{what}: no camera model '{model}'; there are: {', '.join(CAMERA_MODELS)}")
    focals, size = CAMERA_MODELS[model]
    try:
        params = [float(value) for value in values]
    except ValueError:
        params = []
    if len(params) != size or not all(abs(value) < float("inf") for value in params) or min(params[:focals]) <= 0:
        raise TpsfmError(f"{what}: {model} takes {size} numbers, the focal length first and above 0")
    return params

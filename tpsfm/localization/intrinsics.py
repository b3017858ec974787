"""Hypotheses of a query's intrinsics: given, from the map, from EXIF, or to be estimated."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from tpsfm.errors import TpsfmError
from tpsfm.geometry import CAMERA_MODELS, Camera
from tpsfm.photos import Photo

# Focal lengths to try, as multiples of the photo's longer side: fields of view from 96 to 14 degrees, in steps of a
# factor of 1.25, so that one of them is within 12 % of the true one.
FOCAL_FACTORS = tuple(0.45 * 1.25**step for step in range(11))


@dataclass(frozen=True)
class Intrinsics:
    """One hypothesis of a query's intrinsics.

    Attributes:
        source: "given", "map" (those of a photo of the map with the same make, model, focal length and size), "exif" or
            "estimated".
        candidates: cameras to try, of which the one with the most inliers is taken; several where "estimated".
    """

    source: str
    candidates: tuple[Camera, ...]

    @property
    def approximate(self) -> bool:
        """Whether the focal length and distortion are to be refined with the pose."""
        return self.source in ("exif", "estimated")


def intrinsics_of(photo: Photo, given: Camera | None, known: Mapping[Hashable, Camera]) -> list[Intrinsics]:
    """Hypotheses of a query's intrinsics, in the order in which they are tried; the first may be wrong, as EXIF can be.

    Args:
        photo: the query.
        given: the intrinsics that the user gave, or None.
        known: the map's cameras by `Photo.camera_key` and by (width, height); of several, that of the image that sees
            most points.

    Raises:
        TpsfmError: the given camera is of another size than the photo.
    """
    size = photo.size
    if given is not None:
        if (given.width, given.height) != size:
            raise TpsfmError(
                f"its camera is given for {given.width}x{given.height} pixels, but the photo has {size[0]}x{size[1]}"
            )
        return [Intrinsics("given", (given,))]
    hypotheses = []
    if photo.camera_key is not None and photo.camera_key in known:
        hypotheses.append(Intrinsics("map", (known[photo.camera_key],)))
    elif photo.focal_px:
        hypotheses.append(Intrinsics("exif", (simple_camera(photo.focal_px, *size),)))
    candidates = (simple_camera(factor * max(size), *size) for factor in FOCAL_FACTORS)
    same_size = (known[size],) if size in known else ()
    return [*hypotheses, Intrinsics("estimated", (*same_size, *candidates))]


def simple_camera(focal: float, width: int, height: int) -> Camera:
    """A camera without distortion whose principal point is the image's middle; `focal` in pixels."""
    return Camera("SIMPLE_RADIAL", width, height, [float(focal), (width - 1) / 2, (height - 1) / 2, 0.0])


def parse_camera(text: str) -> tuple[str, list[float]]:
    """Camera model and parameters from "MODEL,p1,p2,...", as COLMAP writes them, in its pixels.

    Raises:
        TpsfmError: the model is unknown, a parameter is not a number, or their number is wrong.
    """
    model, *values = (part.strip() for part in text.split(","))
    return model, check_parameters(model, values, f"the camera '{text}'")


def check_parameters(model: str, values: Sequence[str | float], what: str) -> list[float]:
    """The parameters of a camera model as numbers.

    Args:
        model: COLMAP's name of it.
        values: the parameters, in its order.
        what: where they come from, for the error.

    Raises:
        TpsfmError: as `parse_camera`.
    """
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

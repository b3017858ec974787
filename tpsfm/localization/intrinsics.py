"""Hypotheses of a query's intrinsics: given, from the map, from EXIF, or to be estimated."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tpsfm.colmap import fit_camera
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera, Model
from tpsfm.photos import Photo, read_photo

# Focal lengths to try, as multiples of the photo's longer side: fields of view from 96 to 14 degrees, in steps of a
# factor of 1.25, so that one of them is within 12 % of the true one.
FOCAL_FACTORS = tuple(0.45 * 1.25**step for step in range(11))


@dataclass(frozen=True)
class Intrinsics:
    """One hypothesis of a query's intrinsics.

    Attributes:
        source: "given", "map" (those of a photo of the map with the same make, model, focal length and size), "size"
            (those of the map's photos of the same size), "exif" or "estimated".
        candidates: cameras to try, of which the one with the most inliers is taken; several where "estimated".
    """

    source: str
    candidates: tuple[Camera, ...]

    @property
    def approximate(self) -> bool:
        """Whether the focal length and distortion are to be refined with the pose."""
        return self.source in ("size", "exif", "estimated")


def known_cameras(model: Model, photos: Mapping[str, Photo], images: Path) -> dict[Hashable, Camera]:
    """The cameras of a map by `Photo.camera_key` and by (width, height); of several, that of the image that sees most
    points.

    Args:
        photos: the records that are kept; the others are read, if the photos are still there.
        images: their folder.
    """
    cameras: dict[Hashable, Camera] = {}
    for name, pose in sorted(model.images.items(), key=lambda item: item[1].observations):
        camera = model.cameras[pose.camera_id]
        cameras[camera.width, camera.height] = camera
        with suppress(TpsfmError):
            key = (photos.get(name) or read_photo(images / name)).camera_key
            if key is not None:
                cameras[key] = camera
    return cameras


def intrinsics_of(photo: Photo, given: Camera | None, known: Mapping[Hashable, Camera]) -> list[Intrinsics]:
    """Hypotheses of a query's intrinsics, in the order in which they are tried; the first may be wrong, as EXIF can be.

    Args:
        photo: the query.
        given: the intrinsics that the user gave, or None.
        known: `known_cameras` of the map.

    Raises:
        TpsfmError: the given camera doesn't fit the photo, as `fit_camera` says.
    """
    size = photo.size
    if given is not None:
        return [Intrinsics("given", (fit_camera(given, photo),))]
    hypotheses = []
    if photo.camera_key is not None and photo.camera_key in known:
        hypotheses.append(Intrinsics("map", (known[photo.camera_key],)))
    elif photo.focal_px:
        hypotheses.append(Intrinsics("exif", (simple_camera(photo.focal_px, *size),)))
    if size in known:
        hypotheses.append(Intrinsics("size", (known[size],)))
    candidates = (simple_camera(factor * max(size), *size) for factor in FOCAL_FACTORS)
    return [*hypotheses, Intrinsics("estimated", tuple(candidates))]


def simple_camera(focal: float, width: int, height: int) -> Camera:
    """A camera without distortion whose principal point is the image's middle; `focal` in pixels."""
    return Camera("SIMPLE_RADIAL", width, height, [float(focal), (width - 1) / 2, (height - 1) / 2, 0.0])

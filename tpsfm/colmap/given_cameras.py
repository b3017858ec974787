"""Cameras that people give: read, checked, and made to fit photos of other sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tpsfm.colmap.convention import camera_from_colmap, colmap_params
from tpsfm.errors import TpsfmError
from tpsfm.geometry import CAMERA_MODELS, Camera, rescale_points
from tpsfm.photos import Photo
from tpsfm.photos.positions import names_in

_ROW = re.compile(r"((?P<name>.*\S)\s+)?(?P<model>[A-Za-z]\w+)\s+(?P<size>\d+\s+\d+)\s+(?P<params>.+)")
_OFF_CENTRE = 0.15  # share of the side by which a principal point lies off the middle at most, where no size is given
_CENTRED = 0.02  # and where it isn't known which way a photo is turned
_TANGENTIAL = ("OPENCV", "FULL_OPENCV")  # their distortion has directions: k1, k2, p1, p2 and radial ones
_DIRECTED = ("THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE")


@dataclass(frozen=True)
class GivenCamera:
    """A camera as it was written.

    Attributes:
        model: COLMAP's name of it.
        size: (width, height) in pixels, None where it isn't told.
        params: COLMAP's, in its pixels.
    """

    model: str
    size: tuple[int, int] | None
    params: list[float]

    def fit(self, photo: Photo) -> Camera:
        """The camera for a photo as `fit_camera` does it; one without a size for photos that its middle suits.

        Raises:
            TpsfmError: as `fit_camera`; or it has no size and its principal point isn't near the middle of the photo.
        """
        camera = camera_from_colmap(self.model, *(self.size or photo.size), self.params)
        center = _center(camera)
        if self.size is None and np.any(np.abs(center / photo.size - 0.5) > _OFF_CENTRE):
            raise TpsfmError(
                f"its camera has the principal point {center[0]:.0f},{center[1]:.0f}, which isn't near the middle of"
                f" {photo.width}x{photo.height} pixels; write the size that it is for, '{self.model},WIDTH,HEIGHT,...'"
            )
        return fit_camera(camera, photo)


def parse_camera(text: str, where: str = "") -> GivenCamera:
    """The camera "MODEL,W,H,p1,p2,..." or, without a size, "MODEL,p1,p2,..."; the model in any case.

    Raises:
        TpsfmError: as `check_parameters`; `where` tells where the text stands.
    """
    model, *values = (part.strip() for part in text.split(","))
    what, model, size = where or f"the camera '{text}'", model.upper(), None
    if model in CAMERA_MODELS and len(values) == CAMERA_MODELS[model][1] + 2:
        if not all(value.isdecimal() and int(value) for value in values[:2]):
            raise TpsfmError(f"{what}: width and height are whole numbers of pixels")
        size, values = (int(values[0]), int(values[1])), values[2:]
    return GivenCamera(model, size, check_parameters(model, values, what))


def is_camera(text: str) -> bool:
    """Whether a text is a camera as `parse_camera` reads it, good or bad, and not a path."""
    return text.split(",")[0].strip().upper() in CAMERA_MODELS


def parse_row(row: str, where: str) -> tuple[str | None, GivenCamera]:
    """The name and the camera of a row `name MODEL width height params...`; of one without a name None.

    Raises:
        TpsfmError: it is no such row, or as `parse_camera`; `where` tells which.
    """
    found = _ROW.fullmatch(row)
    if found is None:
        raise TpsfmError(f"{where} is not 'MODEL width height params...': {row[:200]!r}")
    model, (width, height) = found["model"].upper(), map(int, found["size"].split())
    if not width or not height:
        raise TpsfmError(f"{where}: a camera of {width}x{height} pixels")
    return found["name"], GivenCamera(model, (width, height), check_parameters(model, found["params"].split(), where))


@dataclass(frozen=True)
class GivenCameras:
    """Known cameras of photos.

    Attributes:
        source: where they come from, for messages.
        named: those of certain photos, by name.
        others: those of any photo that they fit.
    """

    source: str
    named: Mapping[str, GivenCamera] = field(default_factory=dict)
    others: Sequence[GivenCamera] = ()

    def of(self, photos: Mapping[str, Photo]) -> dict[str, Camera]:
        """The cameras of those photos that have one, by name: the one given for it, else the one that fits it best.

        A camera fits a photo of its own size best, then one of its shape, then one that is turned.

        Raises:
            TpsfmError: no photo has one, the one given for a photo doesn't fit it, or several fit one alike.
        """
        named = {photo: self.named[name] for name, photo in names_in(list(self.named), list(photos)).items()}
        found: dict[str, Camera] = {}
        for name, photo in photos.items():
            try:
                camera = named[name].fit(photo) if name in named else self._best(photo)
            except TpsfmError as error:
                raise TpsfmError(f"{self.source}: {name}: {error}") from None
            if camera is not None:
                found[name] = camera
        if not found:
            first = next(iter(photos.values()))
            try:
                problem = f"it names {next(iter(self.named))} first" if self.named else str(self.others[0].fit(first))
            except TpsfmError as error:
                problem = f"{first.name}: {error}"
            raise TpsfmError(f"{self.source}: no photo has one of its cameras; {problem}")
        return found

    def _best(self, photo: Photo) -> Camera | None:
        """The camera that fits a photo best; None where none does."""
        fitting: dict[int, list[Camera]] = {}
        for given in self.others:
            with suppress(TpsfmError):
                size = given.size or photo.size
                rank = 0 if size == photo.size else 1 if same_shape(size, photo.size) else 2
                camera = given.fit(photo)
                if camera not in fitting.setdefault(rank, []):
                    fitting[rank].append(camera)
        best = fitting[min(fitting)] if fitting else [None]
        if len(best) > 1:
            raise TpsfmError(
                f"{len(best)} cameras fit its {photo.width}x{photo.height} pixels alike; write rows 'name MODEL width"
                " height params...', or give the folder of a COLMAP model, whose images tell"
            )
        return best[0]


def read_cameras(source: str) -> GivenCameras:
    """Known cameras from a file, a COLMAP model or a text that is one.

    Args:
        source: a camera as `parse_camera` reads it; a text file with such rows, with rows of COLMAP's cameras.txt
            (`id MODEL width height params...`), or with rows `name MODEL width height params...` for certain photos;
            or the folder of a COLMAP model, whose images tell which photo has which camera.

    Raises:
        TpsfmError: it can't be read, holds no camera, or a row (given by its number) is bad.
    """
    if is_camera(source):
        return GivenCameras("the camera", others=[parse_camera(source)])
    path = Path(source)
    if path.is_dir():
        from tpsfm.colmap.poses_file import read_poses

        model = read_poses(path)
        cameras = {
            key: GivenCamera(camera.model, (camera.width, camera.height), colmap_params(camera))
            for key, camera in model.cameras.items()
        }
        return GivenCameras(source, {name: cameras[pose.camera_id] for name, pose in model.images.items()})
    try:
        rows = [row.strip() for row in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is no text"
        raise TpsfmError(f"can't read the cameras {source}: {problem}") from None
    named, others = {}, []
    for number, row in enumerate(rows, 1):
        if not row or row.startswith("#"):
            continue
        where = f"row {number} of {source}"
        name, camera = (None, parse_camera(row, where)) if is_camera(row) else parse_row(row, where)
        if name is None or name.isdecimal():  # COLMAP's number of it
            others.append(camera)
        else:
            named[name] = camera
    if not (named or others):
        raise TpsfmError(f"{source} holds no camera; write 'MODEL,width,height,params...'")
    return GivenCameras(source, named, others)


def check_parameters(model: str, values: Sequence[str | float], what: str) -> list[float]:
    """The parameters of a camera model as numbers.

    Args:
        model: COLMAP's name of it.
        values: the parameters, in its order.
        what: where they come from, for the error.

    Raises:
        TpsfmError: the model is unknown, a parameter is not a number, or their number is wrong.
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


def fit_camera(camera: Camera, photo: Photo) -> Camera:
    """A camera for a photo as it is stored: scaled where it is of the same shape, turned where the photo is.

    A photo whose EXIF orientation turns it upright is stored the other way; of another one that is turned it isn't
    known which way, and the principal point is taken to be in the middle.

    Raises:
        TpsfmError: the shapes differ, the principal point lies outside, or the camera can't be turned: its distortion
            has directions, or its principal point is off the middle, and it isn't known how they turn.
    """
    own, size, center = (camera.width, camera.height), photo.size, _center(camera)
    if np.any(center < 0) or np.any(center > own):
        raise TpsfmError(
            f"its camera's principal point {center[0]:.0f},{center[1]:.0f} lies outside of {own[0]}x{own[1]} pixels"
        )
    if own == size:
        return camera
    if not same_shape(own, size):
        if not same_shape(own[::-1], size):
            raise TpsfmError(f"its camera is given for {own[0]}x{own[1]} pixels, but the photo has {size[0]}x{size[1]}")
        camera = _turned(camera, photo.orientation)
    at, scale = camera.focals, max(size) / max(own)
    focals, rest = camera.params[:at], camera.params[at + 2 :]
    center = rescale_points(_center(camera), scale)
    return Camera(camera.model, *size, [*(focal * scale for focal in focals), *center.tolist(), *rest])


def same_shape(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether one size is the other one scaled, but for rounding to whole pixels."""
    return abs(first[0] * second[1] - second[0] * first[1]) <= max(*first, *second)


def _turned(camera: Camera, orientation: int) -> Camera:
    """The camera of the photo as it is stored, of that of the photo upright, which is turned by a quarter."""
    (x, y), at, rest = _center(camera).tolist(), camera.focals, camera.params[camera.focals + 2 :]
    middle = np.array([camera.width - 1, camera.height - 1]) / 2
    if orientation == 6:  # stored turned counterclockwise
        center, tangential = (y, camera.width - 1 - x), (-1, 1)
    elif orientation == 8:
        center, tangential = (camera.height - 1 - y, x), (1, -1)
    else:
        center, tangential = (middle[1], middle[0]), (0, 0)
    known = orientation in (6, 8)
    directed = camera.model in _DIRECTED or (camera.model in _TANGENTIAL and not known and any(rest[2:4]))
    if directed or (not known and np.abs(_center(camera) - middle).max() > _CENTRED * max(camera.width, camera.height)):
        raise TpsfmError(
            f"its camera is given for {camera.width}x{camera.height} pixels and can't be turned to the photo's, for it"
            " isn't the same in all directions; give the camera of the photo as it is stored"
        )
    if camera.model in _TANGENTIAL:
        rest = [*rest[:2], tangential[0] * rest[3], tangential[1] * rest[2], *rest[4:]]
    return Camera(camera.model, camera.height, camera.width, [*camera.params[:at][::-1], *center, *rest])


def _center(camera: Camera) -> np.ndarray:
    """The principal point, float64 [2]."""
    return np.array(camera.params[camera.focals : camera.focals + 2], float)

"""Whether photos whose EXIF doesn't tell were taken by one camera: asked of the map that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from tpsfm.colmap.adjustment import adjust_model
from tpsfm.colmap.convention import camera_from_colmap, from_colmap
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.projection import project
from tpsfm.colmap.reader import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera, Pose

_SIGMAS = 4.0  # by which two focal lengths may differ and be one
_FIRST, _LATER = 0.10, 0.02  # and by this share in any case: in the map of free cameras, in that of shared ones
_ROUNDS = 5  # of adjusting, and splitting off the photos that disagree
_WORSE = 1.1  # the greatest growth of the median error by which shared cameras are still believed
_MIN_POINTS = 20  # that tell a photo's focal length
# Photos of a camera, and fall of the squared errors in variances, with which its principal point is adjusted: 2 to 5 on
# 11 scenes rendered or synthesized with it in the middle, 35 to 610 on photos where it isn't.
_MANY, _GAIN = 5, 25.0
_OFF_CENTRE = 0.05  # share of the longer side by which it may move
_LOSS = 1.0  # pixels of the Cauchy loss
_TOLERANCE = 1e-5  # of the adjustment: a third of the time to convergence, the same poses
_ITERATIONS = 12  # of the principal points: half of the time to that tolerance, within a pixel


def share_cameras(
    model: Path, groups: Iterable[Collection[str]], given: Collection[int] = (), fixed: Collection[int] = ()
) -> int:
    """Give the photos of each group one camera as far as their focal lengths agree, and adjust the map to that.

    Each photo's focal length is estimated with its pose against the map's points. Those that agree with the median
    share a camera; after bundle adjustment they are estimated again, and those that disagree by more than their
    uncertainty get back a camera of their own. Where the map then agrees less with its keypoints, it stays as it was.

    Args:
        model: folder of the map, which is replaced file by file.
        groups: the names of photos of one size that may be of one camera; each has a camera of its own.
        given: ids of cameras that are known; their photos are left out of the groups.
        fixed: ids of cameras that stay as they are.

    Returns:
        How many photos share a camera now.

    Raises:
        TpsfmError: the model can't be read or written.
    """
    try:
        before = pycolmap.Reconstruction(model)
        images = {image.name: image for image in before.images.values() if image.camera_id not in given}
        together = [_agreeing(before, [images[name] for name in group if name in images], _FIRST) for group in groups]
        together = [group for group in together if len(group) > 1]
        for _ in range(_ROUNDS):
            if not together:
                return 0
            after = _shared(before, together)
            adjust_model(after, _LOSS, tolerance=_TOLERANCE, fixed=fixed)
            after.update_point_3d_errors()
            kept = [_agreeing(after, [after.image(i) for i in group], _LATER) for group in together]
            if kept == together:
                break
            together = [group for group in kept if len(group) > 1]
        else:
            return 0
        if _median_error(after) > _WORSE * _median_error(before):
            return 0
        after.write_binary(model)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't adjust the model in '{model}': {str(error).splitlines()[0]}") from None
    read_model(model)  # COLMAP doesn't notice a full disk
    return sum(map(len, together))


def center_cameras(
    model: Path, groups: Iterable[Collection[str]], given: Collection[int] = (), fixed: Collection[int] = ()
) -> bool:
    """Adjust the principal points of cameras that many photos came to share, for they are rarely quite in the middle.

    That is kept where it makes the map agree with its keypoints by more than chance.

    Args:
        model: folder of the map with all of its points, which is replaced file by file.
        groups, given, fixed: as for `share_cameras`.

    Returns:
        Whether they are elsewhere.

    Raises:
        TpsfmError: the model can't be read or written.
    """
    try:
        reconstruction = pycolmap.Reconstruction(model)
        names = {name for group in groups for name in group}
        photos = Counter(image.camera_id for image in reconstruction.images.values() if image.name in names)
        cameras = {camera_id for camera_id, count in photos.items() if count >= _MANY} - {*given}
        moved = bool(cameras) and _center(reconstruction, cameras, fixed)
        if moved:
            reconstruction.write_binary(model)
            read_model(model)  # COLMAP doesn't notice a full disk
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't adjust the model in '{model}': {str(error).splitlines()[0]}") from None
    return moved


def focal_of(camera: Camera, pose: Pose, keypoints: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """A photo's focal length when pose and focal length are adjusted to points that stay where they are.

    Args:
        camera, pose: to start from.
        keypoints: [N, 2], in tpsfm's pixels.
        points: [N, 3].

    Returns:
        The focal length over the camera's, and its standard deviation; (1, inf) where it can't be told.
    """
    values = np.zeros(7)  # a small rotation, a translation, the focal length's logarithm
    inverse = np.full((7, 7), np.inf)
    scale = max(float(np.median(np.linalg.norm(points - pose.center, axis=1))), 1e-12) if len(points) else 1.0

    def residuals(change: np.ndarray) -> np.ndarray:
        turn = pycolmap.Rotation3d(_quaternion(change[:3])).matrix()
        moved = Pose(0, turn @ pose.rotation, turn @ pose.translation + scale * change[3:6])
        focals = [value * np.exp(change[6]) for value in camera.params[: camera.focals]]
        lens = Camera(camera.model, camera.width, camera.height, [*focals, *camera.params[camera.focals :]])
        return project(lens, moved, points) - keypoints

    if len(points) < _MIN_POINTS:
        return 1.0, np.inf
    for _ in range(8):
        now = residuals(values)
        seen = np.isfinite(now).all(axis=1)
        steps = 1e-5 * np.eye(7)
        jacobian = np.stack([(residuals(values + step) - now) / 1e-5 for step in steps], axis=-1)
        seen &= np.isfinite(jacobian).all(axis=(1, 2))
        if seen.sum() < _MIN_POINTS:
            return 1.0, np.inf
        weights = np.repeat(1 / (1 + (now[seen] ** 2).sum(axis=1) / _LOSS**2), 2)
        rows, errors = jacobian[seen].reshape(-1, 7), now[seen].ravel()
        try:
            inverse = np.linalg.inv(rows.T @ (weights[:, None] * rows))
        except np.linalg.LinAlgError:
            return 1.0, np.inf
        change = -inverse @ (rows.T @ (weights * errors))
        values = values + change
        if np.abs(change).max() < 1e-6:
            break
    variance = (weights * errors**2).sum() / max(weights.sum() - 7, 1)
    ratio, deviation = float(np.exp(values[6])), float(np.sqrt(variance * inverse[6, 6]))
    return (ratio, deviation) if np.isfinite([ratio, deviation]).all() else (1.0, np.inf)


def _quaternion(turn: np.ndarray) -> np.ndarray:
    """x, y, z, w of a small rotation vector."""
    angle = max(float(np.linalg.norm(turn)), 1e-12)
    return np.array([*(turn / angle * np.sin(angle / 2)), np.cos(angle / 2)])


def _agreeing(model: pycolmap.Reconstruction, images: list, share: float) -> list[int]:
    """The ids of those images whose focal lengths agree with the weighted median of all."""
    if not images:
        return []
    found = [_focal(model, image) for image in images]
    focal, deviation = (np.array(column) for column in zip(*found, strict=True))
    order = np.argsort(focal)
    weight = np.cumsum(1 / np.clip(deviation[order], 1e-3, 1e3))
    median = focal[order][np.searchsorted(weight, weight[-1] / 2)]
    agree = np.abs(np.log(focal / median)) <= np.maximum(share, _SIGMAS * deviation)
    return [image.image_id for image, agrees in zip(images, agree, strict=True) if agrees]


def _focal(model: pycolmap.Reconstruction, image: pycolmap.Image) -> tuple[float, float]:
    """An image's focal length in pixels against the points, and its deviation as a share of it."""
    lens, motion = model.camera(image.camera_id), image.cam_from_world()
    camera = camera_from_colmap(lens.model.name, lens.width, lens.height, [float(value) for value in lens.params])
    seen = [point for point in image.points2D if point.has_point3D()]
    pixels = from_colmap(np.array([point.xy for point in seen]).reshape(-1, 2))
    points = np.array([model.point3D(point.point3D_id).xyz for point in seen]).reshape(-1, 3)
    ratio, deviation = focal_of(camera, Pose(0, motion.rotation.matrix(), motion.translation), pixels, points)
    return ratio * float(lens.mean_focal_length()), deviation


def _shared(model: pycolmap.Reconstruction, groups: list[list[int]]) -> pycolmap.Reconstruction:
    """The model with one camera for the images of each group, of the median focal length."""
    camera_of = {image_id: image.camera_id for image_id, image in model.images.items()}
    params = {camera_id: np.array(camera.params) for camera_id, camera in model.cameras.items()}
    for group in groups:
        first = camera_of[group[0]]
        params[first] = np.median([params[camera_of[image_id]] for image_id in group], axis=0)
        camera_of |= dict.fromkeys(group, first)
    new = pycolmap.Reconstruction()
    for camera_id in sorted(set(camera_of.values())):
        old = model.camera(camera_id)
        new.add_camera_with_trivial_rig(pycolmap.Camera({**old.todict(), "params": params[camera_id]}))
    for image_id in sorted(model.reg_image_ids()):
        seen = model.image(image_id)
        keypoints = np.array([point.xy for point in seen.points2D]).reshape(-1, 2)
        image = pycolmap.Image(seen.name, keypoints, camera_id=camera_of[image_id], image_id=image_id)
        new.add_image_with_trivial_frame(image, seen.cam_from_world())
    for point in (model.point3D(point_id) for point_id in sorted(model.point3D_ids())):
        new.add_point3D(point.xyz, point.track, point.color)
    return new


def _center(model: pycolmap.Reconstruction, cameras: set[int], fixed: Collection[int]) -> bool:
    """Adjust the principal points of cameras; whether the map says that they are not in the middle."""

    def centers() -> np.ndarray:
        lenses = [model.camera(camera_id) for camera_id in sorted(cameras)]
        return np.array(
            [[at / max(c.width, c.height) for at in (c.principal_point_x, c.principal_point_y)] for c in lenses]
        )

    before = centers()
    gain = adjust_model(model, _LOSS, _ITERATIONS, _TOLERANCE, fixed=fixed, centers=cameras)
    model.update_point_3d_errors()
    return gain >= _GAIN and bool(np.abs(centers() - before).max() <= _OFF_CENTRE)


def _median_error(model: pycolmap.Reconstruction) -> float:
    return float(np.median([point.error for point in model.points3D.values()] or [0.0]))

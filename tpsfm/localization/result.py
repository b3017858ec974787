"""The result of localizing one photo, and its record in localization.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tpsfm.colmap import camera_from_colmap, check_parameters, colmap_params
from tpsfm.features import Features
from tpsfm.geometry import Camera, Model, Pose, quaternion
from tpsfm.localization.acceptance import Attempt, inflate_covariance, uncertainty
from tpsfm.localization.correspondences import Correspondences
from tpsfm.localization.landmarks import Landmarks

_COPIED = ("name", "status", "reason", "camera_source", "inliers", "ratio", "best_image")


@dataclass(frozen=True, eq=False)
class Localization:
    """The pose of a photo in a map, or the reason why there is none.

    Attributes:
        name: of the photo.
        status: "localized" or "failed".
        reason: why it failed, "" where it is localized.
        pose: world to camera in the map's frame, or None.
        camera: its intrinsics, or None.
        camera_source: where they come from, as in `Intrinsics.source`; "" where no pose was tried.
        inliers: number of matches that agree with the pose (where it failed: with the last pose that was tried).
        ratio: their share of the matches.
        position_uncertainty: radius of the ball around the camera's centre, in the map's unit, that holds the true
            centre with 95 % probability; nan where there is no pose.
        rotation_uncertainty: the angle, in degrees, below which the rotation's error is with 95 % probability.
        covariance: float64 [6, 6] of a small rotation w (radians, R = exp([w]x) R_estimated) and the translation, by
            `acceptance.inflate_covariance`; or None.
        retrieved: the map's images that are most similar to the photo, the most similar first.
        seconds: wall time by step, over all attempts.
        matches: int64 [inliers, 2], indices of the photo's keypoints and rows of `Model.points`.
        best_image: the map's image that shares most inliers, "" where there is none.
        lines: float32 [K, 4], those inliers: xy in the photo, xy in `best_image`.
    """

    name: str
    status: str = "failed"
    reason: str = ""
    pose: Pose | None = None
    camera: Camera | None = None
    camera_source: str = ""
    inliers: int = 0
    ratio: float = 0.0
    position_uncertainty: float = float("nan")
    rotation_uncertainty: float = float("nan")
    covariance: np.ndarray | None = None
    retrieved: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    matches: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64), repr=False)
    best_image: str = ""
    lines: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.float32), repr=False)


def result_of(
    name: str, attempt: Attempt, features: Features, landmarks: Landmarks, images: Sequence[int], map_error: float
) -> Localization:
    """The result of an attempt.

    Args:
        name: of the photo.
        features: of the photo.
        images: indices into `landmarks.names`, in the order in which they were retrieved.
        map_error: mean reprojection error of the map, radians.
    """
    found, solution = attempt.estimate, attempt.estimate.solution
    result = Localization(
        name,
        reason=attempt.rejection,
        camera_source=found.intrinsics.source,
        retrieved=tuple(landmarks.names[image] for image in images),
    )
    if solution is None:
        return result
    inliers = found.correspondences.select(solution.inliers)
    matches = np.stack([inliers.keypoints, landmarks.points[inliers.landmarks]], 1)
    best_image, lines = _best_image(features, landmarks, found.group, matches)
    ratio = len(matches) / len(found.correspondences)
    result = replace(result, inliers=len(matches), ratio=ratio, matches=matches, best_image=best_image, lines=lines)
    if not attempt.accepted:
        return result
    covariance = inflate_covariance(solution.pose, solution.covariance, map_error)
    position, rotation = uncertainty(solution.pose, covariance)
    return replace(
        result,
        status="localized",
        pose=solution.pose,
        camera=solution.camera,
        covariance=covariance,
        position_uncertainty=position,
        rotation_uncertainty=rotation,
    )


def _best_image(
    features: Features, landmarks: Landmarks, group: Correspondences, inliers: np.ndarray
) -> tuple[str, np.ndarray]:
    """The image with most of the inliers [N, 2], "" where there are none, and these as `Localization.lines`."""
    agreed = {tuple(pair) for pair in inliers.tolist()}
    points = landmarks.points[group.landmarks]
    keep = [pair in agreed for pair in zip(group.keypoints.tolist(), points.tolist(), strict=True)]
    shared = group.select(np.array(keep, bool))
    if not len(shared):
        return "", np.empty((0, 4), np.float32)
    image = int(np.bincount(shared.images).argmax())
    shared = shared.select(shared.images == image)
    ends = features.keypoints[shared.keypoints], landmarks.keypoints[shared.landmarks]
    return landmarks.names[image], np.hstack(ends).astype(np.float32)


def model_of(results: Iterable[Localization]) -> Model:
    """The localized photos as a model without points."""
    cameras, images = {}, {}
    for number, result in enumerate(results):
        if result.pose is not None and result.camera is not None:
            cameras[number] = result.camera
            images[result.name] = replace(result.pose, camera_id=number, observations=result.inliers)
    return Model.of_cameras(cameras, images)


def pose_numbers(pose: Pose) -> list[float]:
    """qw, qx, qy, qz, tx, ty, tz of a pose, world to camera."""
    return [float(value) for value in (*quaternion(pose.rotation), *pose.translation)]


def to_record(result: Localization) -> dict[str, Any]:
    """All of a result but its matches and lines, as JSON values."""
    pose = result.pose
    return {
        "name": result.name,
        "status": result.status,
        "reason": result.reason,
        "pose": None
        if pose is None
        else {
            "quaternion_wxyz": pose_numbers(pose)[:4],
            "translation": pose.translation.tolist(),
            "rotation": pose.rotation.tolist(),
            "center": pose.center.tolist(),
        },
        "camera": None if result.camera is None else asdict(result.camera) | {"params": colmap_params(result.camera)},
        "camera_source": result.camera_source,
        "inliers": result.inliers,
        "ratio": round(result.ratio, 4),
        "position_uncertainty": _finite(result.position_uncertainty),
        "rotation_uncertainty_degrees": _finite(result.rotation_uncertainty),
        "covariance": None if result.covariance is None else result.covariance.tolist(),
        "retrieved": list(result.retrieved),
        "best_image": result.best_image,
        "seconds": {step: round(seconds, 4) for step, seconds in result.seconds.items()},
    }


def from_record(record: dict[str, Any]) -> Localization:
    """The result that `to_record` wrote.

    Raises:
        ValueError, KeyError, TypeError, TpsfmError: the record is damaged.
    """
    known = {key: record[key] for key in _COPIED}
    result = Localization(**known, retrieved=tuple(record["retrieved"]), seconds=dict(record["seconds"]))
    if record["pose"] is None:
        return result
    rotation = np.array(record["pose"]["rotation"], float).reshape(3, 3)
    translation = np.array(record["pose"]["translation"], float).reshape(3)
    model, width, height, params = (record["camera"][key] for key in ("model", "width", "height", "params"))
    params = check_parameters(model, params, "the camera")
    if not np.isfinite([*rotation.flat, *translation]).all() or min(width, height) < 1:
        raise ValueError("a number is not finite, or the camera has no pixels")
    return replace(
        result,
        pose=Pose(0, rotation, translation),
        camera=camera_from_colmap(model, width, height, params),
        position_uncertainty=record["position_uncertainty"],
        rotation_uncertainty=record["rotation_uncertainty_degrees"],
        covariance=np.array(record["covariance"], float).reshape(6, 6),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

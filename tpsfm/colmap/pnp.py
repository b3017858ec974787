"""Absolute pose: a photo's pose from matches of its keypoints with a map's points (PnP)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpsfm.colmap.convention import camera_from_colmap, to_colmap
from tpsfm.colmap.loading import colmap_camera, pycolmap
from tpsfm.geometry import Camera, Pose


@dataclass(frozen=True)
class AbsolutePose:
    """A pose with its intrinsics, inliers and covariance.

    Attributes:
        pose: world to camera; its `camera_id` means nothing.
        camera: the intrinsics, refined where that was asked for.
        inliers: bool [N], the matches that agree with the pose.
        covariance: float64 [6, 6] of a small rotation w (radians, R = exp([w]x) R_estimated) and of the translation,
            scaled by the inliers' residuals; refined intrinsics are marginalized.
    """

    pose: Pose
    camera: Camera
    inliers: np.ndarray
    covariance: np.ndarray


def absolute_pose(
    keypoints: np.ndarray,
    points: np.ndarray,
    camera: Camera,
    max_error: float,
    refine_focal: bool = False,
    refine_distortion: bool = False,
    trials: int = 10_000,
    seed: int = 0,
) -> AbsolutePose | None:
    """Estimate a pose by LO-RANSAC, then refine it on its inliers.

    Args:
        keypoints: [N, 2], xy in tpsfm's pixels.
        points: [N, 3], the map's point of each.
        camera: the intrinsics to start from.
        max_error: greatest reprojection error of an inlier, pixels.
        refine_focal, refine_distortion: adjust these with the pose.
        trials: greatest number of RANSAC's trials.
        seed: of RANSAC.

    Returns:
        None where no pose has more inliers than it has free parameters (6, and one for each that is refined).
    """
    lens = colmap_camera(camera)
    pixels = to_colmap(np.asarray(keypoints, np.float64))
    points = np.asarray(points, np.float64)
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac.max_error = max_error
    estimation.ransac.max_num_trials = trials
    estimation.ransac.min_num_trials = min(100, trials)
    estimation.ransac.random_seed = seed
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.gradient_tolerance = 1e-3
    refinement.loss_function_scale = max_error / 4
    refinement.refine_focal_length = refine_focal
    refinement.refine_extra_params = refine_distortion
    found = None
    if len(pixels) >= 4:
        found = pycolmap.estimate_and_refine_absolute_pose(pixels, points, lens, estimation, refinement, True)
    if found is None or found["covariance"] is None:
        return None
    inliers = _errors(found["cam_from_world"], lens, pixels, points) <= max_error  # the refined camera's
    free = 6 + refine_focal + refine_distortion
    if inliers.sum() <= free:
        return None
    again = pycolmap.refine_absolute_pose(found["cam_from_world"], pixels, points, inliers, lens, refinement, True)
    if again is None or again["covariance"] is None:
        return None
    motion = again["cam_from_world"]
    errors = _errors(motion, lens, pixels, points)
    inliers = errors <= max_error
    squares = errors[inliers] ** 2
    weights = 1 / (1 + squares / refinement.loss_function_scale**2)  # of the Cauchy loss
    # COLMAP's covariance has the weights alone; this makes it that of an M-estimate (Huber, 1981).
    variance = (weights**2 * squares).sum() / max(2 * inliers.sum() - free, 1)
    variance *= weights.mean() / (weights**2).mean() ** 2
    turn = np.repeat([2.0, 1.0], 3)  # COLMAP's rotations are halves of quaternions: a radian is two
    return AbsolutePose(
        # In C's order, as it comes back from a file: products then round alike.
        Pose(0, np.ascontiguousarray(motion.rotation.matrix()), np.array(motion.translation)),
        camera_from_colmap(camera.model, camera.width, camera.height, [float(value) for value in lens.params]),
        inliers,
        variance * again["covariance"] * np.outer(turn, turn),
    )


def _errors(motion: pycolmap.Rigid3d, lens: pycolmap.Camera, pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Reprojection errors [N] in pixels, inf behind the camera."""
    seen = points @ motion.rotation.matrix().T + motion.translation
    errors = np.full(len(points), np.inf)
    ahead = seen[:, 2] > 0
    if ahead.any():
        projected = np.asarray(lens.img_from_cam(seen[ahead]), np.float64)
        errors[ahead] = np.nan_to_num(np.linalg.norm(projected - pixels[ahead], axis=1), nan=np.inf)
    return errors

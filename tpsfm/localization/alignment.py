"""Align a query's inliers with the patches of the points they show, and estimate its pose once more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tpsfm import colmap
from tpsfm.alignment.tracks import MAX_DISPLACEMENT, MIN_ZNCC, Patches, align_to_patches, projected_axes
from tpsfm.alignment.views import PhotoView
from tpsfm.features import Features
from tpsfm.geometry import rescale_points
from tpsfm.localization.estimation import MIN_INLIERS, Estimate
from tpsfm.localization.landmarks import Landmarks

MAX_ERROR = 2.0  # reprojection error of an aligned inlier, pixels of the photo as the extractor saw it
MIN_SHARE = 0.3  # of the inliers that must be found for a pose to be estimated from them
TRIALS = 1_000  # of RANSAC: nearly all are right


def align_estimate(
    estimate: Estimate,
    pixels: np.ndarray,
    features: Features,
    landmarks: Landmarks,
    points: np.ndarray,
    patches: Patches,
    max_size: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Estimate:
    """The pose and camera of an accepted estimate, estimated again from its inliers where the patches are found.

    Its inliers stay those of the first pose. Where too few patches are found (other light, blur), all of it stays.

    Args:
        estimate: with a solution.
        pixels: of the query, uint8 [H, W, 3] or [H, W].
        features: of the query.
        points: float64 [P, 3], xyz of the map's points.
        patches: of the P points.
        max_size: longer side of the photo as the extractor saw it, pixels.
        device: where to compute.
        seed: of RANSAC.
    """
    solution = estimate.solution
    if solution is None:
        return estimate
    inliers = estimate.correspondences.select(solution.inliers)
    shown = landmarks.points[inliers.landmarks]
    known = patches.reference[shown] >= 0
    inliers, shown = inliers.select(known), shown[known]
    view = PhotoView(solution.camera, solution.pose, max_size, device)
    keypoints = features.keypoints[inliers.keypoints].astype(np.float64)
    jacobians = projected_axes(view, points[shown], patches.axes[shown])
    places = rescale_points(keypoints, view.scale)
    aligned = align_to_patches(view.reduce(pixels), patches, shown, places, jacobians)
    found = aligned.accepted(MIN_ZNCC, MAX_DISPLACEMENT)
    if found.sum() < max(MIN_INLIERS, MIN_SHARE * solution.inliers.sum()):
        return estimate
    exact = keypoints[found] + aligned.displacement[found] / view.scale
    refine = estimate.intrinsics.approximate
    max_error = MAX_ERROR / float(view.scale.min())
    again = colmap.absolute_pose(exact, points[shown[found]], solution.camera, max_error, refine, refine, TRIALS, seed)
    if again is None or again.inliers.sum() < MIN_INLIERS:
        return estimate
    better = replace(solution, pose=again.pose, camera=again.camera, covariance=again.covariance)
    return replace(estimate, solution=better)

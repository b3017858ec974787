"""Estimate a query's pose from its correspondences with a map's points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpsfm import colmap
from tpsfm.features import Features
from tpsfm.localization.correspondences import Correspondences, best_point_each, covisible_groups
from tpsfm.localization.intrinsics import Intrinsics
from tpsfm.localization.landmarks import Landmarks

MIN_INLIERS = 20
MAX_ERROR = 6.0  # reprojection error of an inlier, pixels of the photo as the extractor saw it
RANSAC_TRIALS = 10_000
# Shares by which the focal length may differ from what these tell,
FOCAL_DOUBT = {"map": 0.02, "size": 0.05, "exif": 0.1}
FOCAL_SIGMAS = 4.0  # or so many of its standard deviations, before other cameras are tried
FOCAL_TRIALS, FOCAL_MATCHES = 2_000, 1_000  # where the best of several focal lengths is chosen first, for each


@dataclass(frozen=True, eq=False)
class Estimate:
    """The pose that most correspondences with one group of covisible images agree with.

    Attributes:
        intrinsics: the hypothesis under which it was estimated.
        correspondences: one for each keypoint that has any in the group.
        group: all of the group's.
        solution: the pose, the refined camera and which `correspondences` are inliers; None where none was found.
    """

    intrinsics: Intrinsics
    correspondences: Correspondences
    group: Correspondences
    solution: colmap.AbsolutePose | None = None

    @property
    def inliers(self) -> int:
        """How many correspondences agree with the pose."""
        return 0 if self.solution is None else int(self.solution.inliers.sum())


def estimate_in_groups(
    features: Features,
    matches: Correspondences,
    landmarks: Landmarks,
    points: np.ndarray,
    intrinsics: Intrinsics,
    scale: float,
    seed: int = 0,
) -> Estimate:
    """Estimate a pose from each group of covisible images, and take the one with the most inliers.

    Images of places that look alike but lie apart do not support each other's pose (as in hloc).

    Args:
        features: of the query.
        matches: with the landmarks of all images.
        points: float64 [P, 3], xyz of the map's points.
        intrinsics, scale, seed: as in `estimate`.

    Returns:
        Where no group has a pose: the group with the most correspondences, without a solution.
    """
    tried = []
    for images in covisible_groups(landmarks, list(dict.fromkeys(matches.images.tolist()))):
        group = matches.select(np.isin(matches.images, images))
        chosen = best_point_each(group, landmarks.points)
        solution = None
        if len(chosen) >= MIN_INLIERS:
            xyz = points[landmarks.points[chosen.landmarks]]
            solution = estimate(features.keypoints[chosen.keypoints], xyz, intrinsics, scale, seed)
        tried.append(Estimate(intrinsics, chosen, group, solution))
    none = Estimate(intrinsics, Correspondences.none(), Correspondences.none())
    return max(tried, key=lambda found: (found.inliers, len(found.correspondences)), default=none)


def estimate(
    keypoints: np.ndarray, points: np.ndarray, intrinsics: Intrinsics, scale: float, seed: int = 0
) -> colmap.AbsolutePose | None:
    """The refined pose of the candidate camera with the most inliers.

    Args:
        keypoints: [N, 2], xy in the query.
        points: [N, 3], the map point of each.
        intrinsics: of the query.
        scale: pixels of the query for each pixel of the image as the extractor saw it.
        seed: of RANSAC.

    Returns:
        None where no camera has a pose.
    """
    camera = intrinsics.candidates[0]
    max_error = MAX_ERROR * scale
    if len(intrinsics.candidates) > 1:
        few = slice(None, None, 1 + len(keypoints) // FOCAL_MATCHES)
        tried = [
            colmap.absolute_pose(keypoints[few], points[few], candidate, max_error, True, False, FOCAL_TRIALS, seed)
            for candidate in intrinsics.candidates
        ]
        found = [pose for pose in tried if pose is not None]
        if not found:
            return None
        camera = max(found, key=lambda pose: pose.inliers.sum()).camera
    refine = intrinsics.approximate
    return colmap.absolute_pose(keypoints, points, camera, max_error, refine, refine, RANSAC_TRIALS, seed)


def confirms_camera(found: Estimate, features: Features, points: np.ndarray) -> bool:
    """Whether a pose's inliers agree with the focal length that was believed, when it is adjusted to them.

    Args:
        found: an estimate with a solution.
        features: of the query.
        points: [N, 3], the map point of each of its correspondences.
    """
    if found.solution is None or found.intrinsics.source not in FOCAL_DOUBT:
        return True
    agree, camera = found.solution.inliers, found.solution.camera
    keypoints = features.keypoints[found.correspondences.keypoints]
    ratio, deviation = colmap.focal_of(camera, found.solution.pose, keypoints[agree], points[agree])
    change = ratio * camera.params[0] / found.intrinsics.candidates[0].params[0]
    return abs(np.log(change)) <= max(FOCAL_DOUBT[found.intrinsics.source], FOCAL_SIGMAS * deviation)

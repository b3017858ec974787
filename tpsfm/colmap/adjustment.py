"""Bundle adjustment of a few views held in memory."""

from __future__ import annotations

import numpy as np

from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.loading import colmap_camera, pycolmap
from tpsfm.geometry import Camera


def adjust(
    camera: Camera,
    poses: np.ndarray,
    points: np.ndarray,
    views: np.ndarray,
    tracks: np.ndarray,
    keypoints: np.ndarray,
    fixed: int = 2,
    pixels: float = 1.0,
    iterations: int = 10,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses and points that see each other with the least reprojection error (Cauchy loss).

    Args:
        camera: the intrinsics of all views, left as they are.
        poses: float64 [V, 3, 4], world to camera.
        points: float64 [P, 3], each seen by two views or more.
        views, tracks: integers [M], which view saw which point; none twice.
        keypoints: [M, 2], where, in pixels of tpsfm.
        fixed: the first that many views stay where they are; two hold the scale.
        pixels: of the loss; an observation this far off counts half.
        iterations: at most.

    Returns:
        poses float64 [V, 3, 4] and points float64 [P, 3]. Source: Triggs et al., Bundle Adjustment, 1999.
    """
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(colmap_camera(camera))
    config = pycolmap.BundleAdjustmentConfig()
    config.set_constant_cam_intrinsics(1)
    row = np.empty(len(views), np.int64)  # of an observation among those of its view
    for view, pose in enumerate(poses):
        own = np.flatnonzero(views == view)
        row[own] = np.arange(len(own))
        image = pycolmap.Image(str(view), to_colmap(keypoints[own].astype(float)), camera_id=1, image_id=view + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
        config.add_image(view + 1)
        if view < fixed:
            config.set_constant_rig_from_world_pose(view + 1)
    order = np.argsort(tracks, kind="stable")
    ends = np.searchsorted(tracks[order], np.arange(len(points) + 1))
    ids = []
    for track, point in enumerate(points):
        seen = order[ends[track] : ends[track + 1]]
        elements = [pycolmap.TrackElement(int(views[m]) + 1, int(row[m])) for m in seen]
        ids.append(model.add_point3D(point, pycolmap.Track(elements)))

    options = pycolmap.BundleAdjustmentOptions(
        {
            "print_summary": False,
            "refine_focal_length": False,
            "refine_extra_params": False,
            "ceres": {
                "loss_function_type": "CAUCHY",
                "loss_function_scale": pixels,
                "solver_options": {"max_num_iterations": iterations, "num_threads": 1, "function_tolerance": 1e-5},
            },
        }
    )
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    refined = [model.image(view + 1).cam_from_world().matrix() for view in range(len(poses))]
    return np.stack(refined), np.array([model.point3D(i).xyz for i in ids]).reshape(-1, 3)

"""Bundle adjustment: of a model, and of a few views held in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.loading import colmap_camera, pycolmap
from tpsfm.colmap.rigs import turns_only
from tpsfm.geometry import Camera

_MAX_ERROR, _MIN_ANGLE = 4.0, 1.5  # pixels and degrees of the points that stay; COLMAP's
# A direct solver's time grows with the square of how many images see a point. Where more than `_LONG` do on average, an
# iterative one takes its place beyond `_FEW` images, and finds the same: with 250 images in half of the time.
_LONG, _FEW = 12.0, 100


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


def adjust_model(
    model: pycolmap.Reconstruction,
    loss: float | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
    fixed: Collection[int] = (),
    poses: bool = True,
    centers: Collection[int] = (),
    threads: int = 1,
) -> float:
    """Adjust all cameras but for their principal points, all poses and points of COLMAP's model.

    Two images hold its frame.

    Args:
        loss: pixels of the Cauchy loss: an observation this far off counts half; None for least squares.
        iterations: at most.
        tolerance: it ends where the cost falls by a smaller share.
        fixed: ids of cameras whose intrinsics stay as they are.
        poses: False leaves the poses as they are.
        centers: ids of cameras whose principal points are adjusted, too; all other cameras stay then as they are.
        threads: with more than one the last bits differ from run to run.

    Returns:
        By how much the sum of the squared residuals fell, as a multiple of their variance after it.
    """
    if centers:
        fixed = [camera_id for camera_id in model.cameras if camera_id in fixed or camera_id not in centers]
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    for camera_id in fixed:
        if camera_id in model.cameras:
            config.set_constant_cam_intrinsics(camera_id)
    if poses:
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    else:
        for frame_id in model.reg_frame_ids():
            config.set_constant_rig_from_world_pose(frame_id)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_principal_point = bool(centers)
    options.refine_sensor_from_rig = not turns_only(model.rigs.values())
    if loss is not None:
        options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
        options.ceres.loss_function_scale = loss
    if model.compute_mean_track_length() > _LONG:
        options.ceres.max_num_images_direct_sparse_cpu_solver = _FEW
    options.ceres.solver_options.num_threads = threads
    options.ceres.solver_options.max_num_iterations = iterations
    options.ceres.solver_options.function_tolerance = tolerance
    solved: Any = pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    found = solved.ceres_summary
    return found.num_residuals * (found.initial_cost - found.final_cost) / max(found.final_cost, 1e-12)


def restore_cameras(model: pycolmap.Reconstruction, cameras: Iterable[pycolmap.Camera]) -> None:
    """Give a model intrinsics of some of its cameras, adjust all else to them, and drop the points that don't agree."""
    given = {camera.camera_id: camera for camera in cameras if camera.camera_id in model.cameras}
    for camera_id, camera in given.items():
        model.camera(camera_id).params = list(camera.params)
    adjust_model(model, loss=1.0, fixed=given)
    drop_points(model)


def drop_points(model: pycolmap.Reconstruction, max_error: float = _MAX_ERROR) -> None:
    """Drop the observations and points that don't agree with a model after its adjustment.

    Args:
        max_error: pixels.
    """
    pycolmap.ObservationManager(model).filter_all_points3D(max_error, _MIN_ANGLE)
    model.update_point_3d_errors()

"""Bundle adjustment: of a model, and of a few views held in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
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
_MOST = 3_000_000  # observations that are adjusted together with the cameras; 2.3 GB
_ROUNDS = 5  # of iterations where a model is kept between them: two of ten each, 20 s for 2 million observations
_AT_ONCE = 300_000  # observations of points that are adjusted alone


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

    options = _options(pixels, iterations, 1e-5, 1)
    options.refine_focal_length = options.refine_extra_params = False
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    refined = [model.image(view + 1).cam_from_world().matrix() for view in range(len(poses))]
    return np.stack(refined), np.array([model.point3D(i).xyz for i in ids]).reshape(-1, 3)


def adjust_model(
    model: pycolmap.Reconstruction,
    loss: float | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
    fixed: Collection[int] = (),
    centers: Collection[int] = (),
    threads: int = 1,
    keep: Callable[[int], None] | None = None,
    begin: int = 0,
) -> float:
    """Adjust all cameras but for their principal points, all poses and points of COLMAP's model.

    Two images hold its frame. Of more than `_MOST` observations some, evenly chosen by their points, find the cameras
    and poses, and all points follow: memory stays within that of so many.

    Args:
        loss: pixels of the Cauchy loss: an observation this far off counts half; None for least squares.
        iterations: at most.
        tolerance: it ends where the cost falls by a smaller share.
        fixed: ids of cameras whose intrinsics stay as they are.
        centers: ids of cameras whose principal points are adjusted, too; all other cameras stay then as they are.
        threads: with more than one the last bits differ from run to run.
        keep: called with the number of rounds done after each of `_ROUNDS` of iterations; None makes one of all.
        begin: how many rounds were done before.

    Returns:
        By how much the sum of the squared residuals fell, as a multiple of their variance after it.
    """
    options = _options(loss, iterations, tolerance, threads)
    share = model.compute_num_observations() / _MOST
    if share > 1:
        some = copy.deepcopy(model)
        for number, point_id in enumerate(sorted(model.point3D_ids())):
            if int((number + 1) / share) == int(number / share):
                some.delete_point3D(point_id)

        def keep_all(done: int) -> None:
            _take_over(model, some)
            if keep is not None:
                keep(done)

        gain = _adjust_all(some, options, fixed, centers, keep and keep_all, begin)
        _take_over(model, some)
        adjust_points(model, loss, iterations, tolerance, threads)
        return gain
    return _adjust_all(model, options, fixed, centers, keep, begin)


def adjust_points(
    model: pycolmap.Reconstruction,
    loss: float | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
    threads: int = 1,
) -> None:
    """Adjust the points of a model; cameras and poses stay. The arguments are those of `adjust_model`."""
    options, count = _options(loss, iterations, tolerance, threads), 0
    config = pycolmap.BundleAdjustmentConfig()
    left = sorted(model.point3D_ids())
    for number, point_id in enumerate(left, 1):
        config.add_variable_point(point_id)
        count += model.point3D(point_id).track.length()
        if count > _AT_ONCE or number == len(left):
            pycolmap.create_default_bundle_adjuster(options, config, model).solve()
            config, count = pycolmap.BundleAdjustmentConfig(), 0


def _options(loss: float | None, iterations: int, tolerance: float, threads: int) -> pycolmap.BundleAdjustmentOptions:
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    if loss is not None:
        options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
        options.ceres.loss_function_scale = loss
    options.ceres.solver_options.num_threads = threads
    options.ceres.solver_options.max_num_iterations = iterations
    options.ceres.solver_options.function_tolerance = tolerance
    return options


def _adjust_all(
    model: pycolmap.Reconstruction,
    options: pycolmap.BundleAdjustmentOptions,
    fixed: Collection[int],
    centers: Collection[int],
    keep: Callable[[int], None] | None,
    begin: int,
) -> float:
    if centers:
        fixed = [camera_id for camera_id in model.cameras if camera_id in fixed or camera_id not in centers]
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    for camera_id in fixed:
        if camera_id in model.cameras:
            config.set_constant_cam_intrinsics(camera_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options.refine_principal_point = bool(centers)
    options.refine_sensor_from_rig = not turns_only(model.rigs.values())
    if model.compute_mean_track_length() > _LONG:
        options.ceres.max_num_images_direct_sparse_cpu_solver = _FEW
    adjuster = pycolmap.create_default_bundle_adjuster(options, config, model)
    solver, rounds = adjuster.options.ceres.solver_options, 1 if keep is None else _ROUNDS
    ends = [solver.max_num_iterations * done // rounds for done in range(rounds + 1)]
    gain = 0.0
    while begin < rounds:
        solver.max_num_iterations = ends[begin + 1] - ends[begin]
        solved: Any = adjuster.solve()
        found, begin = solved.ceres_summary, begin + 1
        gain += found.num_residuals * (found.initial_cost - found.final_cost) / max(found.final_cost, 1e-12)
        if solved.termination_type == pycolmap.BundleAdjustmentTerminationType.CONVERGENCE:
            begin = rounds
        if keep is not None:
            keep(begin)
    return gain


def _take_over(model: pycolmap.Reconstruction, adjusted: pycolmap.Reconstruction) -> None:
    """Give a model the cameras, poses and points of a copy that was adjusted, and may have fewer points."""
    for camera_id, camera in adjusted.cameras.items():
        model.camera(camera_id).params = camera.params
    for rig_id, rig in adjusted.rigs.items():
        for sensor, pose in rig.non_ref_sensors.items():
            model.rig(rig_id).set_sensor_from_rig(sensor, pose)
    for frame_id in adjusted.reg_frame_ids():
        model.frame(frame_id).rig_from_world = adjusted.frame(frame_id).rig_from_world
    for point_id, point in adjusted.points3D.items():
        model.point3D(point_id).xyz = point.xyz


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

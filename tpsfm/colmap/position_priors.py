"""A map adjusted to what is known of its photos' positions or of points on the ground, so that it doesn't bend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.reader import read_model
from tpsfm.colmap.rigs import turns_only
from tpsfm.errors import TpsfmError

_MEDIAN = 1.177  # standard deviations of a coordinate: the median length of an error of two
_LOSS = 2.0  # standard deviations of the Cauchy losses: an observation or a position this far off counts half
_ITERATIONS, _TOLERANCE = 50, 1e-5  # how a map bends is found in more steps than its details
_FAR = 1e5  # metres from a known point to the cameras that hold it, so that perspective is none
_LOOSE = 1e-9  # weight of an axis that such a camera doesn't hold
_DOWN = np.diag([1.0, -1.0, -1.0])  # rotation of a camera that looks down, north up
_NORTH = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # and of one that looks north


@dataclass(frozen=True)
class KnownPoint:
    """A point whose place is known.

    Attributes:
        place: float64 [3] in the frame of the map.
        deviation: its standard deviation along each axis, above 0.
        sightings: (image name, x, y) each, in tpsfm's pixels.
    """

    place: np.ndarray
    deviation: np.ndarray
    sightings: Sequence[tuple[str, float, float]]


def adjust_to_positions(
    model: Path, output: Path, positions: Mapping[str, np.ndarray], deviations: Mapping[str, np.ndarray]
) -> None:
    """Adjust cameras, poses and points to the observations and to the positions, each weighted by its deviation.

    The deviation of an observation is told by the reprojection errors of the map as it is.

    Args:
        model: folder of the map, which is only read; its frame is that of the positions.
        output: folder to which the adjusted map is written; may be the same.
        positions: float64 [3] by image name.
        deviations: their standard deviations along each axis, above 0.

    Raises:
        TpsfmError: the map can't be read or written.
    """
    try:
        reconstruction = pycolmap.Reconstruction(model)
        pixel = _pixel(reconstruction)
        config = _all_images(reconstruction)
        priors = []
        for image_id in config.images:
            image = reconstruction.image(image_id)
            if image.name in positions:
                covariance = np.diag((np.asarray(deviations[image.name]) / pixel) ** 2)
                priors.append(
                    pycolmap.PosePrior(
                        corr_data_id=image.data_id,
                        position=positions[image.name],
                        position_covariance=covariance,  # in units of an observation's, which COLMAP takes to be 1 px
                        coordinate_system=pycolmap.PosePriorCoordinateSystem.CARTESIAN,
                    )
                )
        prior_options = pycolmap.PosePriorBundleAdjustmentOptions(
            {
                "alignment_ransac": {"random_seed": 0},
                "ceres": {"prior_position_loss_function_type": "CAUCHY", "prior_position_loss_scale": _LOSS * pixel},
            }
        )
        adjuster = pycolmap.create_pose_prior_bundle_adjuster(
            _options(pixel, reconstruction), prior_options, config, priors, reconstruction
        )
        adjuster.solve()
        reconstruction.update_point_3d_errors()
        reconstruction.write_binary(output)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't adjust the map in '{model}': {str(error).splitlines()[0]}") from None
    read_model(output)  # COLMAP doesn't notice a full disk


def adjust_to_points(model: Path, output: Path, points: Sequence[KnownPoint]) -> None:
    """Adjust cameras, poses and points to the observations and to points that are known, weighted by their deviation.

    The known points are not among those of the adjusted map.

    Args:
        model: folder of the map, which is only read; its frame is that of the points: east, north and up.
        output: folder to which the adjusted map is written; may be the same.

    Raises:
        TpsfmError: the map can't be read or written.
    """
    try:
        kept, held = pycolmap.Reconstruction(model), pycolmap.Reconstruction(model)
        pixel = _pixel(kept)
        config = _all_images(held)
        ids = {held.image(image_id).name: image_id for image_id in config.images}
        for point in points:
            elements = [_add_sighting(held, ids[name], (x, y)) for name, x, y in point.sightings]
            for rotation, axes in ((_DOWN, point.deviation[:2]), (_NORTH, (np.inf, point.deviation[2]))):
                image = _add_holder(held, point.place, rotation, pixel / np.asarray(axes))
                config.add_image(image.image_id)
                config.set_constant_cam_intrinsics(image.camera_id)
                config.set_constant_rig_from_world_pose(image.frame_id)
                elements.append(pycolmap.TrackElement(image.image_id, 0))
            held.add_point3D(point.place, pycolmap.Track(elements))
        pycolmap.create_default_bundle_adjuster(_options(pixel, kept), config, held).solve()
        _copy_adjusted(held, kept)
        kept.update_point_3d_errors()
        kept.write_binary(output)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't adjust the map in '{model}': {str(error).splitlines()[0]}") from None
    read_model(output)


def _pixel(reconstruction: pycolmap.Reconstruction) -> float:
    """The standard deviation of an observation, pixels."""
    errors = [point.error for point in reconstruction.points3D.values()]
    return max(float(np.median(errors)) / _MEDIAN, 1e-3)


def _all_images(reconstruction: pycolmap.Reconstruction) -> pycolmap.BundleAdjustmentConfig:
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in reconstruction.reg_image_ids():
        config.add_image(image_id)
    return config


def _options(pixel: float, reconstruction: pycolmap.Reconstruction) -> pycolmap.BundleAdjustmentOptions:
    solver = {"max_num_iterations": _ITERATIONS, "num_threads": 1, "function_tolerance": _TOLERANCE}
    return pycolmap.BundleAdjustmentOptions(
        {
            "print_summary": False,
            "refine_sensor_from_rig": not turns_only(reconstruction.rigs.values()),
            "ceres": {
                "loss_function_type": "CAUCHY",
                "loss_function_scale": _LOSS * pixel,
                "solver_options": solver,
            },
        }
    )


def _add_sighting(
    reconstruction: pycolmap.Reconstruction, image_id: int, pixel: tuple[float, float]
) -> pycolmap.TrackElement:
    keypoints = reconstruction.image(image_id).points2D
    keypoints.append(pycolmap.Point2D(to_colmap(np.array([pixel]))[0]))
    return pycolmap.TrackElement(image_id, len(keypoints) - 1)


def _add_holder(
    reconstruction: pycolmap.Reconstruction, place: np.ndarray, rotation: np.ndarray, weights: np.ndarray
) -> pycolmap.Image:
    """Add a camera far from a place that sees it in the origin of its image, a metre beside it at `weights` [2] pixels.

    COLMAP has no priors of points' places, but an observation by a camera that is held is one.
    """
    camera_id, image_id = max(reconstruction.cameras) + 1, max(reconstruction.images) + 1
    focals = _FAR * np.maximum(weights, _LOOSE)
    reconstruction.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=camera_id, model="PINHOLE", width=1, height=1, params=[*focals, 0, 0])
    )
    image = pycolmap.Image(f"holder {image_id}", np.zeros((1, 2)), camera_id=camera_id, image_id=image_id)
    translation = np.array([0, 0, _FAR]) - rotation @ place
    reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(np.column_stack([rotation, translation])))
    return reconstruction.image(image_id)


def _copy_adjusted(source: pycolmap.Reconstruction, target: pycolmap.Reconstruction) -> None:
    """Give a map the cameras, poses and points of a copy of it that was adjusted."""
    for camera_id, camera in target.cameras.items():
        camera.params = source.camera(camera_id).params
    for rig_id, rig in target.rigs.items():
        for sensor, pose in rig.non_ref_sensors.items():
            if pose is not None:
                rig.set_sensor_from_rig(sensor, source.rig(rig_id).sensor_from_rig(sensor))
    for frame_id in target.reg_frame_ids():
        target.frame(frame_id).rig_from_world = source.frame(frame_id).rig_from_world
    for point_id, point in target.points3D.items():
        point.xyz = source.point3D(point_id).xyz

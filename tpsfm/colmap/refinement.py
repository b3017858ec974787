"""A model whose keypoints were made more exact: adjusted to them, and rid of the observations that don't agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.reader import read_model
from tpsfm.errors import TpsfmError

_LOSS = 0.5  # pixels of the Cauchy loss: an observation this far off counts half
_MAX_ERROR, _MIN_ANGLE = 2.0, 1.5  # pixels and degrees of the points that stay
_ITERATIONS, _TOLERANCE = 10, 1e-4  # of the adjustment: it begins close to its end


@dataclass(frozen=True)
class Moved:
    """What became of an image's keypoints.

    Attributes:
        keypoints: float64 [K, 2], all of the image.
        dropped: int64 [D], those that no longer show a point.
    """

    keypoints: np.ndarray
    dropped: np.ndarray


def refine_model(
    model: Path, output: Path, moved: Mapping[str, Moved], scale: float = 1.0, fixed: bool = False
) -> None:
    """Move a model's keypoints, adjust all cameras, poses and points, and drop what doesn't agree.

    Args:
        model: folder of the model, which is only read.
        output: an empty folder for the refined model.
        moved: by image name; other images stay as they are.
        scale: how many pixels of a photo are one of those in which keypoints were found: thresholds grow with it.
        fixed: whether cameras and poses are known and stay: only the points are adjusted.

    Raises:
        TpsfmError: the model can't be read, or `output` can't be written.
    """
    try:
        reconstruction = pycolmap.Reconstruction(model)
        observations = pycolmap.ObservationManager(reconstruction)
        for image in list(reconstruction.images.values()):
            if image.name in moved:
                _move(image, moved[image.name], observations)
        _adjust(reconstruction, scale, fixed)
        pycolmap.ObservationManager(reconstruction).filter_all_points3D(_MAX_ERROR * scale, _MIN_ANGLE)
        reconstruction.update_point_3d_errors()
        reconstruction.write_binary(output)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't refine the model in '{model}': {str(error).splitlines()[0]}") from None
    read_model(output)  # COLMAP doesn't notice a full disk


def _move(image: pycolmap.Image, moved: Moved, observations: pycolmap.ObservationManager) -> None:
    for point, xy in zip(image.points2D, to_colmap(moved.keypoints), strict=True):
        point.xy = xy
    for index in moved.dropped.tolist():
        if image.points2D[index].has_point3D():  # a point goes with its last observation but one
            observations.delete_observation(image.image_id, index)


def _adjust(reconstruction: pycolmap.Reconstruction, scale: float, fixed: bool) -> None:
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in reconstruction.reg_image_ids():
        config.add_image(image_id)
    if fixed:
        for camera_id in reconstruction.cameras:
            config.set_constant_cam_intrinsics(camera_id)
        for frame_id in reconstruction.reg_frame_ids():
            config.set_constant_rig_from_world_pose(frame_id)
    else:
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = _LOSS * scale
    options.ceres.solver_options.num_threads = 1  # more would change its sums from run to run
    options.ceres.solver_options.max_num_iterations = _ITERATIONS
    options.ceres.solver_options.function_tolerance = _TOLERANCE
    pycolmap.create_default_bundle_adjuster(options, config, reconstruction).solve()

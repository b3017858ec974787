"""A map adjusted to what is known of its photos' positions, so that it doesn't bend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.reader import read_model
from tpsfm.errors import TpsfmError

_MEDIAN = 1.177  # standard deviations of a coordinate: the median length of an error of two
_LOSS = 2.0  # standard deviations of the Cauchy losses: an observation or a position this far off counts half
_ITERATIONS, _TOLERANCE = 50, 1e-5  # how a map bends is found in more steps than its details


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
        errors = [point.error for point in reconstruction.points3D.values()]
        pixel = max(float(np.median(errors)) / _MEDIAN, 1e-3)
        config = pycolmap.BundleAdjustmentConfig()
        priors = []
        for image_id in reconstruction.reg_image_ids():
            config.add_image(image_id)
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
        options = pycolmap.BundleAdjustmentOptions(
            {
                "print_summary": False,
                "ceres": {
                    "loss_function_type": "CAUCHY",
                    "loss_function_scale": _LOSS * pixel,
                    "solver_options": {
                        "max_num_iterations": _ITERATIONS,
                        "num_threads": 1,
                        "function_tolerance": _TOLERANCE,
                    },
                },
            }
        )
        prior_options = pycolmap.PosePriorBundleAdjustmentOptions(
            {
                "alignment_ransac": {"random_seed": 0},
                "ceres": {"prior_position_loss_function_type": "CAUCHY", "prior_position_loss_scale": _LOSS * pixel},
            }
        )
        adjuster = pycolmap.create_pose_prior_bundle_adjuster(options, prior_options, config, priors, reconstruction)
        adjuster.solve()
        reconstruction.update_point_3d_errors()
        reconstruction.write_binary(output)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't adjust the map in '{model}': {str(error).splitlines()[0]}") from None
    read_model(output)  # COLMAP doesn't notice a full disk

"""A model whose keypoints were made more exact: adjusted to them, and rid of the observations that don't agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tpsfm.colmap.adjustment import adjust_model, adjust_points, drop_points
from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.reader import read_model
from tpsfm.colmap.snapshots import Checkpoint
from tpsfm.errors import TpsfmError

_LOSS = 0.25  # pixels of the Cauchy loss: an observation this far off counts half; half of them are within 0.1
_MAX_ERROR = 2.0  # pixels of the points that stay
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
    model: Path,
    output: Path,
    moved: Mapping[str, Moved],
    scale: float = 1.0,
    fixed: Collection[int] = (),
    poses: bool = True,
    threads: int = 1,
    loss: float = _LOSS,
    iterations: int = _ITERATIONS,
    tolerance: float = _TOLERANCE,
    checkpoint: Path | None = None,
) -> None:
    """Move a model's keypoints, adjust all cameras, poses and points, and drop what doesn't agree.

    Args:
        model: folder of the model, which is only read.
        output: an empty folder for the refined model.
        moved: by image name; other images stay as they are.
        scale: how many pixels of a photo are one of those in which keypoints were found: thresholds grow with it.
        fixed, threads: as for `adjust_model`.
        poses: False leaves cameras and poses as they are.
        loss: pixels of the Cauchy loss, times `scale`; the default is for keypoints that were made exact.
        iterations, tolerance: of the adjustment; the defaults are for a model that is close to its end.
        checkpoint: folder of what the adjustment goes on from where it is killed; None keeps nothing.

    Raises:
        TpsfmError: the model can't be read, or `output` can't be written.
    """
    try:
        kept = Checkpoint(checkpoint) if checkpoint else None
        reconstruction, begin = (kept and kept.load()) or (pycolmap.Reconstruction(model), 0)
        observations = pycolmap.ObservationManager(reconstruction)
        for image in [] if begin else list(reconstruction.images.values()):
            if image.name in moved:
                _move(image, moved[image.name], observations)
        if poses:
            keep = (lambda done: kept.save(reconstruction, done)) if kept else None
            adjust_model(
                reconstruction, loss * scale, iterations, tolerance, fixed, threads=threads, keep=keep, begin=begin
            )
        else:
            adjust_points(reconstruction, loss * scale, iterations, tolerance, threads)
        drop_points(reconstruction, _MAX_ERROR * scale)
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

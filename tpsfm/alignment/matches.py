"""Alignment of the matches of two images, whose geometry is known as a homography or as a fundamental matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from tpsfm.alignment.patches import RADIUS, align_patches, read_patches, smoothed
from tpsfm.errors import TpsfmError

MIN_ZNCC = 0.8
MAX_DISPLACEMENT = 3.0  # pixels
NEIGHBOURS = 12  # matches that a local affine map is fitted to
EPIPOLAR = 3.0  # pixels from its epipolar line within which a match takes part in such a fit
OUTLYING = 3.0  # pixels from the fit at which a match counts half
SINGULAR = 1e-6  # of the greatest singular value, in units of the images' sides: a smaller one counts as 0


@dataclass(frozen=True)
class AlignedMatches:
    """Matches of which one keypoint was moved to where the patch about the other is found.

    Attributes:
        keypoints0, keypoints1: float64 [K, 2], the two keypoints of each match; as they were given where it is not
            `found`. The one in the image that shows the place larger is the one that stays.
        zncc: float32 [K], correlation of the patches, nan where one leaves its image or is flat.
        found: bool [K], which are to be trusted.
    """

    keypoints0: np.ndarray
    keypoints1: np.ndarray
    zncc: np.ndarray
    found: np.ndarray


def align_matches(
    image0: np.ndarray,
    image1: np.ndarray,
    keypoints0: np.ndarray,
    keypoints1: np.ndarray,
    matches: np.ndarray,
    model: np.ndarray,
    device: torch.device | str = "cpu",
) -> AlignedMatches:
    """Make matches exact to a tenth of a pixel, by aligning the patches about their keypoints.

    Args:
        image0, image1: uint8 [H, W, 3] RGB or [H, W].
        keypoints0, keypoints1: [N, 2] and [M, 2] xy, the centre of the top-left pixel at (0, 0).
        matches: integers [K, 2], indices of the two.
        model: float [3, 3], a homography that takes the first image to the second, whose derivative warps the patches;
            or a fundamental matrix, x1^T F x0 = 0, beside which the warps are fitted to neighbouring matches.
        device: where to compute.

    Raises:
        TpsfmError: the model is no such matrix.
    """
    first = np.asarray(keypoints0, np.float64)[matches[:, 0]].reshape(-1, 2)
    second = np.asarray(keypoints1, np.float64)[matches[:, 1]].reshape(-1, 2)
    model = np.asarray(model, np.float64)
    if is_homography(model, image0.shape, image1.shape):
        warps = homography_warps(model, first)
    else:
        warps = neighbour_warps(model, first, second)
    determinant = np.linalg.det(warps)
    usable = np.isfinite(warps).all((1, 2)) & (np.abs(determinant) > 1e-3) & (np.abs(determinant) < 1e3)
    shrinking = np.abs(determinant) <= 1
    images = smoothed(image0, device), smoothed(image1, device)
    zncc = np.full(len(matches), np.nan, np.float32)
    found = np.zeros(len(matches), bool)
    for rows, template, moved, way, (source, target) in (
        (usable & shrinking, first, second, lambda a: a, images),
        (usable & ~shrinking, second, first, np.linalg.inv, images[::-1]),
    ):
        pixels = read_patches(source, _tensor(template[rows], device), radius=RADIUS + 1)
        aligned = align_patches(target, pixels, _tensor(moved[rows], device), _tensor(way(warps[rows]), device))
        good = found[rows] = aligned.accepted(MIN_ZNCC, MAX_DISPLACEMENT)
        zncc[rows] = aligned.zncc
        moved[rows] += good[:, None] * aligned.displacement
    return AlignedMatches(first, second, zncc, found)


def is_homography(model: np.ndarray, shape0: tuple[int, ...], shape1: tuple[int, ...]) -> bool:
    """Whether a matrix is a homography (rank 3) between images of two shapes (H, W, ...), or a fundamental matrix.

    Raises:
        TpsfmError: it is neither.
    """
    if model.shape != (3, 3) or not np.isfinite(model).all():
        raise TpsfmError("the geometry of two images must be a finite homography or fundamental matrix [3, 3]")
    scale0, scale1 = (np.diag([max(shape[:2]), max(shape[:2]), 1.0]) for shape in (shape0, shape1))
    largest, _, least = np.linalg.svd(np.linalg.inv(scale1) @ model @ scale0, compute_uv=False)
    if least > SINGULAR * largest:
        return True
    largest, middle, _ = np.linalg.svd(scale1 @ model @ scale0, compute_uv=False)
    if middle > SINGULAR * largest:
        return False
    raise TpsfmError("the geometry of two images must be a homography (rank 3) or a fundamental matrix (rank 2)")


def _tensor(values: np.ndarray, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def homography_warps(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The derivatives [N, 2, 2] of a homography [3, 3] at points [N, 2]."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    depth = mapped[:, 2, None, None]
    target = mapped[:, :2] / mapped[:, 2:]
    return (homography[:2, :2] - target[:, :, None] * homography[2, :2]) / depth


def neighbour_warps(fundamental: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Affine maps [K, 2, 2] of the surroundings of matches [K, 2], [K, 2], fitted to the nearest of them that agree
    with a fundamental matrix; nan where too few do.

    Weighted least squares in two rounds, by the Cauchy weights of the residuals of the first.
    """
    line = np.column_stack([first, np.ones(len(first))]) @ fundamental.T
    distance = np.abs((line[:, :2] * second).sum(1) + line[:, 2]) / np.linalg.norm(line[:, :2], axis=1).clip(1e-12)
    good = np.flatnonzero(distance < EPIPOLAR)
    if len(good) < NEIGHBOURS:
        return np.full((len(first), 2, 2), np.nan)
    nearest = good[cKDTree(first[good]).query(first, NEIGHBOURS)[1]]
    source = np.concatenate([first[nearest] - first[:, None], np.ones((*nearest.shape, 1))], 2)
    target = second[nearest] - second[:, None]
    weights = np.ones(nearest.shape)
    for _ in range(2):
        weighted = source * weights[..., None]
        normal = weighted.transpose(0, 2, 1) @ source
        normal += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        fit = np.linalg.solve(normal, weighted.transpose(0, 2, 1) @ target)
        residual = np.linalg.norm(target - source @ fit, axis=2)
        weights = 1 / (1 + (residual / OUTLYING) ** 2)
    return fit[:, :2].transpose(0, 2, 1)

"""Alignment of a map's tracks: every observation of a point is moved onto the patch of one reference observation.

The warp between two observations follows from the plane about the point and the two cameras; only the displacement is
estimated (see `tpsfm.alignment.patches`). Source: the photometric refinement of PMVS (Furukawa and Ponce, PAMI 2010)
and of PixSfM (Lindenberger et al., ICCV 2021), with a template of pixels and a fixed warp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.spatial import cKDTree

from tpsfm.alignment.patches import RADIUS, Alignment, align_patches, read_patches
from tpsfm.parallel import in_parallel

MIN_ZNCC = 0.8
MAX_DISPLACEMENT = 3.0  # pixels
NEIGHBOURS = 12  # points that a point's plane is fitted to
FLATNESS = 0.2  # greatest ratio of the two smaller variances of points on a plane
MIN_FACING = 0.3  # least cosine between a plane's normal and the mean viewing direction
STEP = 1e-3  # of the depth, by which a point is moved to see how its projection moves


class View(Protocol):
    """An image of known camera and pose."""

    @property
    def center(self) -> np.ndarray:
        """float64 [3], the projection centre in the world."""
        ...

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels float64 [N, 2] of points [N, 3] of the world; nan behind the camera."""
        ...

    def read(self) -> torch.Tensor | None:
        """The image as `patches.smoothed` gives it, in the pixels of `project`; None where it can't be had."""
        ...


@dataclass(frozen=True)
class Tracks:
    """Which image sees which point where: M observations of P points in V images.

    Attributes:
        points: float64 [P, 3].
        point: int64 [M], row of `points`.
        image: int64 [M], 0 to V - 1.
        keypoints: float64 [M, 2].
    """

    points: np.ndarray
    point: np.ndarray
    image: np.ndarray
    keypoints: np.ndarray


@dataclass(frozen=True)
class Patches:
    """What the surface about each of P points looks like in its reference observation.

    Attributes:
        pixels: uint8 [P, (2 radius + 3)^2], grey levels as `read_patches` gives them.
        axes: float32 [P, 3, 2], two unit vectors that span the plane of the surface.
        jacobians: float32 [P, 2, 2], by how many pixels of the reference a step along each axis moves the point.
        reference: int64 [P], the observation that `pixels` are of; -1 where there is none whose image can be read.
    """

    pixels: np.ndarray
    axes: np.ndarray
    jacobians: np.ndarray
    reference: np.ndarray

    def warps(self, points: np.ndarray, jacobians: np.ndarray) -> np.ndarray:
        """The affine warps float32 [N, 2, 2] from the patches of some points to an image.

        Args:
            points: int64 [N], rows of the patches.
            jacobians: [N, 2, 2], of the same points in the image, see `projected_axes`.
        """
        return (jacobians @ np.linalg.pinv(self.jacobians[points])).astype(np.float32)


@dataclass(frozen=True)
class TrackAlignment:
    """Where observations were found.

    Attributes:
        displacement: float32 [M, 2], pixels; of a reference 0.
        zncc: float32 [M]; of a reference 1, nan where nothing could be compared.
        found: bool [M], which displacements are to be trusted; those of references are.
        tried: bool [M], False where a photo could not be read: nothing is known of these.
    """

    displacement: np.ndarray
    zncc: np.ndarray
    found: np.ndarray
    tried: np.ndarray


def align_tracks(
    tracks: Tracks,
    views: Sequence[View],
    progress: Callable[[int, int], None] | None = None,
    parallel: Callable[..., Iterator[tuple[int, Sequence[np.ndarray]]]] = in_parallel,
) -> tuple[TrackAlignment, Patches]:
    """Move the observations of every point onto the patch of its reference observation.

    The reference is the observation whose viewing direction is nearest to the mean of all. Images are read one by one,
    twice each, so memory grows with the points (some 300 bytes each) and not with the images.

    Args:
        tracks: the observations; a point may have none.
        views: the V images.
        progress: called with (images read, of how many).
        parallel: `in_parallel`, or that of a `tpsfm.io.journal.Journal`.
    """
    axes, jacobians, reference = _surfaces(tracks, views)
    of_image = [np.flatnonzero(tracks.image == v) for v in range(len(views))]
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, 2 * len(views))

    pixels = np.zeros((len(tracks.points), (2 * RADIUS + 3) ** 2), np.uint8)
    is_reference = np.zeros(len(tracks.point), bool)
    is_reference[reference[reference >= 0]] = True
    references = [rows[is_reference[rows]] for rows in of_image]
    readable = np.ones(len(views), bool)
    jobs = ((v, (view, tracks.keypoints[references[v]])) for v, view in enumerate(views))
    for v, read in parallel(_reference_pixels, jobs):
        readable[v] = bool(read)
        if read:
            pixels[tracks.point[references[v]]] = read[0]
        step()
    known = reference >= 0
    known[known] = readable[tracks.image[reference[known]]]
    of_reference = np.zeros((len(reference), 2, 2), np.float32)
    of_reference[known] = jacobians[reference[known]]
    patches = Patches(pixels, axes.astype(np.float32), of_reference, np.where(known, reference, -1))

    displacement, zncc = np.zeros((len(tracks.point), 2), np.float32), np.ones(len(tracks.point), np.float32)
    found = is_reference.copy()
    tried = known[tracks.point] & readable[tracks.image]
    moved = [rows[~is_reference[rows] & tried[rows]] for rows in of_image]
    moves = ((v, (view, patches, tracks, moved[v], jacobians[moved[v]])) for v, view in enumerate(views))
    for v, arrays in parallel(_align_image, moves):
        if arrays:
            aligned, rows = Alignment(*arrays), moved[v]
            displacement[rows], zncc[rows] = aligned.displacement, aligned.zncc
            found[rows] = aligned.accepted(MIN_ZNCC, MAX_DISPLACEMENT)
        step()
    return TrackAlignment(displacement, zncc, found, tried), patches


def _reference_pixels(view: View, keypoints: np.ndarray) -> Sequence[np.ndarray]:
    """Patches uint8 [N, (2 RADIUS + 3)^2] about keypoints [N, 2] of an image; nothing where it can't be read."""
    image = view.read()
    if image is None:
        return []
    centres = torch.from_numpy(keypoints.astype(np.float32)).to(image.device)
    return [read_patches(image, centres, radius=RADIUS + 1).round().clamp(0, 255).byte().cpu().numpy()]


def align_to_patches(
    image: torch.Tensor, patches: Patches, points: np.ndarray, keypoints: np.ndarray, jacobians: np.ndarray
) -> Alignment:
    """Move keypoints of an image onto the patches of the points that they show.

    Args:
        image: as `patches.smoothed` gives it.
        points: int64 [N], rows of `patches`.
        keypoints: [N, 2].
        jacobians: [N, 2, 2], of the points in this image, see `projected_axes`.

    """
    device = image.device
    return align_patches(
        image,
        torch.from_numpy(patches.pixels[points]).to(device),
        torch.from_numpy(keypoints.astype(np.float32)).to(device),
        torch.from_numpy(patches.warps(points, jacobians)).to(device),
    )


def _align_image(
    view: View, patches: Patches, tracks: Tracks, rows: np.ndarray, jacobians: np.ndarray
) -> Sequence[np.ndarray]:
    """The arrays of the `Alignment` of these observations, all of one image; nothing where it can't be read."""
    image = view.read() if len(rows) else None
    if image is None:
        return []
    aligned = align_to_patches(image, patches, tracks.point[rows], tracks.keypoints[rows], jacobians)
    return [aligned.displacement, aligned.zncc, aligned.step]


def projected_axes(view: View, points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """By how many pixels points move in an image for a step along each axis: float64 [N, 2, 2].

    Args:
        points: [N, 3].
        axes: [N, 3, 2], unit vectors.

    Returns:
        0 for a point behind the camera.
    """
    length = STEP * np.linalg.norm(points - view.center, axis=1)[:, None]
    columns = [
        (view.project(points + length * axis) - view.project(points - length * axis)) / (2 * length)
        for axis in np.moveaxis(axes, 2, 0)
    ]
    return np.nan_to_num(np.stack(columns, -1))


def _surfaces(tracks: Tracks, views: Sequence[View]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes [P, 3, 2] of each point's plane, the Jacobians [M, 2, 2] of observations, the reference [P] of points."""
    centers = np.array([view.center for view in views]).reshape(-1, 3)
    towards = centers[tracks.image] - tracks.points[tracks.point]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    mean = np.zeros_like(tracks.points)
    np.add.at(mean, tracks.point, towards)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    mean = np.where(length > 0, mean / length.clip(1e-12), [0.0, 0.0, 1.0])
    axes = plane_axes(normals(tracks.points, mean))
    facing = (towards * mean[tracks.point]).sum(1)
    order = np.lexsort((facing, tracks.point))
    reference = np.full(len(tracks.points), -1)
    reference[tracks.point[order]] = order  # of a point's the last one stays, which faces it most
    jacobians = np.empty((len(tracks.point), 2, 2))
    for v, view in enumerate(views):
        rows = np.flatnonzero(tracks.image == v)
        jacobians[rows] = projected_axes(view, tracks.points[tracks.point[rows]], axes[tracks.point[rows]])
    return axes, jacobians, reference


def normals(points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Normals of the surface at points: of the plane through the nearest ones where these are flat and seen from the
    front, else the viewing direction.

    Args:
        points: [P, 3].
        directions: [P, 3], unit vectors towards the cameras on average.
    """
    if len(points) <= NEIGHBOURS:
        return directions
    _, nearest = cKDTree(points).query(points, NEIGHBOURS + 1)
    around = points[nearest] - points[nearest].mean(1, keepdims=True)
    variances, vectors = np.linalg.eigh(around.transpose(0, 2, 1) @ around)
    normal = vectors[:, :, 0]
    cosine = (normal * directions).sum(1)
    plane = (variances[:, 0] < FLATNESS * variances[:, 1]) & (np.abs(cosine) > MIN_FACING)
    return np.where(plane[:, None], normal * np.sign(cosine)[:, None], directions)


def plane_axes(normal: np.ndarray) -> np.ndarray:
    """Two unit vectors [P, 3, 2] that span the planes of normals [P, 3]."""
    helper = np.where(np.abs(normal[:, :1]) < 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]])
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(normal, first)], -1)

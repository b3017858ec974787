"""Subpixel alignment of image patches: inverse compositional Lucas-Kanade on many patches at once.

A template is a patch of a reference image about a point. The same patch of scene surface appears in another image
under an affine warp A that is known well enough (from poses and a plane, from a homography, ...) and at a place that is
known to a pixel or two. The displacement d of that place is what is estimated, with the warp held fixed:

    min_d sum_u w(u) (I(x + d + A u) - T(u))^2,   I and T of zero weighted mean and unit weighted deviation,

so that gain and offset of the light drop out. Source: Baker and Matthews, Lucas-Kanade 20 Years On, IJCV 2004; the
normalization is that of zero-mean normalized cross-correlation (ZNCC).

Points are xy in pixels, the centre of the top-left pixel at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

RADIUS = 6  # of the patches, pixels: 13 x 13
BLUR = 0.8  # σ of the Gaussian that images are smoothed with first, pixels
WINDOW = 0.6  # σ of the weights about the centre, as a share of the radius
ITERATIONS = 10
LONGEST_STEP = 1.0  # pixels a step
CONVERGED = 0.01  # pixels: a patch that moves less is done
FLAT = 2.0  # grey levels of 255: a patch of less deviation shows nothing
REMAP = int(cv2.__version__.split(".")[0]) >= 5  # before, OpenCV rounded places to 1/32 of a pixel
CHUNK = 1 << 12  # patches at a time: what stays in the cache is faster


@dataclass(frozen=True)
class Alignment:
    """Where patches were found.

    Attributes:
        displacement: float32 [M, 2], d, pixels.
        zncc: float32 [M], correlation of the patch there with its template, in [-1, 1]; nan where the patch leaves the
            image or either of the two is flat.
        step: float32 [M], length of the last step, pixels.
    """

    displacement: np.ndarray
    zncc: np.ndarray
    step: np.ndarray

    def accepted(self, min_zncc: float, max_displacement: float, max_step: float = 0.1) -> np.ndarray:
        """Which patches were found: bool [M]."""
        near = np.linalg.norm(self.displacement, axis=1) < max_displacement
        return (np.nan_to_num(self.zncc, nan=-1.0) > min_zncc) & near & (self.step < max_step)


def smoothed(image: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """An image uint8 [H, W] or [H, W, 3] RGB as patches are read from it: grey float32 [H, W], slightly blurred."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return torch.from_numpy(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), BLUR)).to(device)


def grid(radius: int, device: torch.device | str = "cpu") -> Tensor:
    """Offsets u of a patch's pixels from its centre, row by row: float32 [2, (2 radius + 1)^2], x and y."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy")).flatten(1)


def window(radius: int, device: torch.device | str = "cpu") -> Tensor:
    """Gaussian weights w of a patch's pixels, of sum 1: [(2 radius + 1)^2]."""
    weights = torch.exp(-0.5 * (grid(radius, device) / (WINDOW * radius)).square().sum(0))
    return weights / weights.sum()


def read_patches(image: Tensor, centres: Tensor, warps: Tensor | None = None, radius: int = RADIUS) -> Tensor:
    """Sample patches bilinearly.

    Args:
        image: [H, W].
        centres: [M, 2].
        warps: [M, 2, 2], A; None is the identity.
        radius: of the patches.

    Returns:
        [M, (2 radius + 1)^2]; beyond the border the image is continued by its last pixels.
    """
    offsets = grid(radius, image.device)
    if not len(centres):
        return offsets.new_empty(0, offsets.shape[1])
    x, y = (centres[:, i, None] + (offsets[i] if warps is None else warps[:, i] @ offsets) for i in range(2))
    if image.device.type == "cpu" and REMAP:  # several times as fast as grid_sample
        sampled = cv2.remap(image.numpy(), x.numpy(), y.numpy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return torch.from_numpy(sampled)
    size = image.new_tensor([image.shape[1], image.shape[0]])
    where = (2 * torch.stack([x, y], -1) + 1) / size - 1
    return F.grid_sample(image[None, None], where[None], align_corners=False, padding_mode="border")[0, 0]


def normalized(patches: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Patches [M, K] of zero weighted mean and unit weighted deviation, and the deviation [M] that they had."""
    centred = patches - (patches @ weights)[:, None]
    deviation = (centred.square() @ weights).sqrt()
    return centred / deviation.clamp_min(1e-6)[:, None], deviation


class Templates:
    """Patches of reference images, ready to be looked for.

    Args:
        pixels: [P, (2 radius + 3)^2] grey levels, patches with a margin of a pixel for their gradients, as
            `read_patches` gives them with `radius + 1`.
    """

    def __init__(self, pixels: Tensor) -> None:
        side = round(pixels.shape[1] ** 0.5)
        self.radius = (side - 3) // 2
        self.weights = window(self.radius, pixels.device)
        square = pixels.float().reshape(-1, side, side)
        self.values, self.deviation = normalized(square[:, 1:-1, 1:-1].flatten(1), self.weights)
        scale = 1 / (2 * self.deviation.clamp_min(1e-6)[:, None])
        dx = (square[:, 1:-1, 2:] - square[:, 1:-1, :-2]).flatten(1) * scale
        dy = (square[:, 2:, 1:-1] - square[:, :-2, 1:-1]).flatten(1) * scale
        xx, xy, yy = ((a * b) @ self.weights for a, b in ((dx, dx), (dx, dy), (dy, dy)))
        determinant = (xx * yy - xy * xy).clamp_min(1e-9)[:, None]
        # The rows of H^-1 grad T w.
        self.descent_x = (yy[:, None] * dx - xy[:, None] * dy) / determinant * self.weights
        self.descent_y = (xx[:, None] * dy - xy[:, None] * dx) / determinant * self.weights

    def __len__(self) -> int:
        return len(self.values)

    def select(self, index: Tensor) -> Templates:
        """The templates at `index` (integers, or a mask)."""
        chosen = object.__new__(Templates)
        chosen.radius, chosen.weights = self.radius, self.weights
        for name in ("values", "deviation", "descent_x", "descent_y"):
            setattr(chosen, name, getattr(self, name)[index])
        return chosen


@torch.inference_mode()
def align_patches(image: Tensor, pixels: Tensor, keypoints: Tensor, warps: Tensor) -> Alignment:
    """Find patches in an image near where they are expected.

    Args:
        image: [H, W], as `smoothed` gives it.
        pixels: [M, (2 radius + 3)^2], the patch to look for at each place, as `Templates` takes them.
        keypoints: [M, 2], x, where its centre is expected.
        warps: [M, 2, 2], A, from template pixels to pixels of the image.
    """
    none = keypoints.new_empty(0)
    parts = [(none.reshape(0, 2), none, none)]
    for i in range(0, len(pixels), CHUNK):
        some = slice(i, i + CHUNK)
        parts.append(_align(image, Templates(pixels[some]), keypoints[some], warps[some]))
    return Alignment(*(torch.cat(values).cpu().numpy() for values in zip(*parts, strict=True)))


def _align(image: Tensor, templates: Templates, keypoints: Tensor, warps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Displacement, ZNCC and last step of each patch."""
    places, zncc, length = keypoints.clone(), keypoints.new_zeros(len(keypoints)), keypoints.new_zeros(len(keypoints))
    moving = torch.arange(len(keypoints), device=image.device)
    for iteration in range(ITERATIONS + 1):
        patches = read_patches(image, places[moving], warps[moving], templates.radius)
        patches, deviation = normalized(patches, templates.weights)
        correlation = (patches * templates.values) @ templates.weights
        flat = (deviation < FLAT) | (templates.deviation < FLAT)
        zncc[moving] = correlation.masked_fill(flat, torch.nan)
        if iteration == ITERATIONS:
            break
        residual = patches - templates.values
        step = torch.stack([(templates.descent_x * residual).sum(1), (templates.descent_y * residual).sum(1)], 1)
        step = -(warps[moving] @ step[..., None])[..., 0]
        norm = step.norm(dim=1)
        places[moving] += step * (LONGEST_STEP / norm.clamp_min(LONGEST_STEP))[:, None]
        length[moving] = norm
        going = (norm >= CONVERGED) & ~flat
        if not going.any():
            break
        moving, templates = moving[going], templates.select(going)
    size = image.new_tensor([image.shape[1] - 1, image.shape[0] - 1])
    outside = ((places < 0) | (places > size)).any(1)
    return places - keypoints, zncc.masked_fill(outside, torch.nan), length

"""Homographies between views, batched. Points are xy in pixels, the centre of the top-left pixel at (0, 0)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from kornia.geometry.transform import get_perspective_transform
from torch import Tensor
from torch.nn import functional as F

CORNERS = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])


def apply_homography(homography: Tensor, points: Tensor) -> Tensor:
    """Map points [B, N, 2] by homographies [B, 3, 3].

    The result lies in memory as [B, 2, N]: with the points innermost, all that follows is many times as fast on a CPU.
    """
    mapped = torch.baddbmm(homography[:, :, 2:], homography[:, :, :2], points.transpose(1, 2)).transpose(1, 2)
    return mapped[..., :2] / mapped[..., 2:]


def inverse(homography: Tensor) -> Tensor:
    """The inverse homographies [B, 3, 3], solved in float64."""
    return torch.linalg.inv(homography.double()).to(homography.dtype)


def pixel_grid(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """All pixel centres, row by row: [H · W, 2] xy."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack([x, y]).reshape(2, -1).float().T


def sample(values: Tensor, points: Tensor, stride: int = 1) -> Tensor:
    """Read maps [B, C, h, w] with a cell each `stride` pixels at points [B, N, 2], bilinearly, the border continued
    outwards: [B, N, C]."""
    size = points.new_tensor([values.shape[-1] * stride, values.shape[-2] * stride])
    grid = (2 * points + 1) / size - 1
    return F.grid_sample(values, grid[:, None], align_corners=False, padding_mode="border")[:, :, 0].transpose(1, 2)


@dataclass
class Warp:
    """How far the two views of a photo may lie apart at full strength.

    Attributes:
        rotation: largest rotation of each view, degrees.
        zoom: largest factor between the scales of the two views.
        perspective: largest shift of a corner, as a share of the crop's side.
        shift: largest shift between the views' centres, as a share of the crop's side.
        relief: largest parallax of the scene's relief, as a share of the crop's side; at most 0.1.
        scale: (least, most) photo pixels a crop pixel of the first view, at any strength.
    """

    rotation: float = 30.0
    zoom: float = 2.0
    perspective: float = 0.2
    shift: float = 0.25
    relief: float = 0.06
    scale: tuple[float, float] = (0.7, 1.5)


def uniform(*shape: int, generator: torch.Generator) -> Tensor:
    """Numbers in [-1, 1]."""
    return torch.rand(*shape, generator=generator) * 2 - 1


def draw_sides(warp: Warp, size: int, photo_sizes: Tensor, generator: torch.Generator) -> Tensor:
    """How many photo pixels the crops of photos [B, 2] (width, height) span, before any zoom: [B].

    Where a photo is too small for a scale, the scale gives way.
    """
    least, most = (math.log(factor) for factor in warp.scale)
    log_scale = least + (most - least) * torch.rand(len(photo_sizes), generator=generator)
    fits = photo_sizes.min(1).values / (size * 1.2)
    return size * torch.minimum(log_scale.exp(), fits)


def draw_view(
    warp: Warp, strength: float, size: int, centres: Tensor, sides: Tensor, mirrored: Tensor, generator: torch.Generator
) -> Tensor:
    """A random view of each photo, as a homography [B, 3, 3] from crop to photo pixels.

    Args:
        warp: the ranges at strength 1.
        strength: 0 (a straight crop) to 1.
        size: side of the square crops, pixels.
        centres: [B, 2] xy in the photos where the views lie.
        sides: [B] photo pixels that the views span.
        mirrored: [B] bool.
        generator: the source of randomness (CPU).
    """
    batch = len(centres)
    angle = torch.deg2rad(uniform(batch, generator=generator) * warp.rotation * strength)
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    mirror = torch.stack([1 - 2.0 * mirrored, torch.ones(batch)], -1)[:, None]
    shape = CORNERS * mirror + uniform(batch, 4, 2, generator=generator) * warp.perspective * strength / 2
    shift = uniform(batch, 1, 2, generator=generator) * warp.shift * strength / 2
    target = (shape @ rotation.transpose(1, 2) + shift) * sides[:, None, None] + centres[:, None]
    source = (CORNERS + 0.5) * size - 0.5
    return get_perspective_transform(source.expand(batch, 4, 2).double(), target.double()).float()

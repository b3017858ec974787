"""Homographies between views, batched. Points are xy in pixels, the centre of the top-left pixel at (0, 0)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def apply_homography(homography: Tensor, points: Tensor) -> Tensor:
    """Map points [B, N, 2] by homographies [B, 3, 3]."""
    mapped = points @ homography[:, :, :2].transpose(1, 2) + homography[:, None, :, 2]
    return mapped[..., :2] / mapped[..., 2:]


def pixel_grid(height: int, width: int, device=None) -> Tensor:
    """All pixel centres, row by row: [H · W, 2] xy."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2).float()


def four_point_homography(source: Tensor, target: Tensor) -> Tensor:
    """The homographies [B, 3, 3] that send four points [B, 4, 2] to four others."""
    x, y = source.unbind(-1)
    u, v = target.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    system = torch.cat([rows_u, rows_v], 1).double()
    solution = torch.linalg.solve(system, torch.cat([u, v], 1).double())
    return torch.cat([solution, torch.ones_like(solution[:, :1])], 1).reshape(-1, 3, 3).to(source.dtype)


@dataclass
class Warp:
    """How far the two views of a photo may lie apart at full strength.

    Attributes:
        rotation: largest rotation of each view, degrees.
        zoom: largest factor between the scales of the two views.
        perspective: largest shift of a corner, as a share of the crop's side.
        shift: largest shift between the views' centres, as a share of the crop's side.
        scale: (least, most) photo pixels a crop pixel of the first view, at any strength.
    """

    rotation: float = 30.0
    zoom: float = 2.0
    perspective: float = 0.2
    shift: float = 0.25
    scale: tuple[float, float] = (0.7, 1.5)


def crop_to_photo(
    warp: Warp, strength: float, size: int, photo_sizes: Tensor, centres: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Two random views of each photo, as homographies from crop to photo pixels.

    Args:
        warp: the ranges at strength 1.
        strength: 0 (the same crop twice) to 1.
        size: side of the square crops, pixels.
        photo_sizes: [B, 2] width, height.
        centres: [B, 2] xy in the photos where the views should lie; they are moved where a view would leave its photo.
        generator: the source of randomness (CPU).

    Returns:
        Two tensors [B, 3, 3]. Where a photo is too small for a scale, the scale gives way.
    """
    batch = len(photo_sizes)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * 2 - 1

    least, most = warp.scale
    fits = photo_sizes.min(1).values / (size * 1.2)
    log_scale = math.log(least) + (math.log(most) - math.log(least)) * torch.rand(batch, generator=generator)
    log_scale = torch.minimum(log_scale, fits.log())
    ratio = uniform(batch) * math.log(warp.zoom) * strength
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    half = size * log_scale.exp()[:, None] * 0.5
    centres = centres.maximum(half).minimum((photo_sizes - half).maximum(half))
    source = (corners + 0.5) * size - 0.5
    views = []
    for sign in (-0.5, 0.5):
        angle = torch.deg2rad(uniform(batch) * warp.rotation * strength)
        cos, sin = angle.cos(), angle.sin()
        rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
        shape = corners + uniform(batch, 4, 2) * warp.perspective * strength / 2
        side = size * (log_scale + sign * ratio).exp()
        target = (shape @ rotation.transpose(1, 2)) * side[:, None, None]
        shift = uniform(batch, 2) * warp.shift * strength * side[:, None] / 2
        target = target + (centres + shift)[:, None]
        views.append(four_point_homography(source.expand(batch, 4, 2), target))
    return views[0], views[1]

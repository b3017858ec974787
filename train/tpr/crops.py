"""Grey crops cut from photos in memory, through any map."""

from __future__ import annotations

import torch
from torch import Tensor

from tpr.geometry import CORNERS, apply_homography, sample
from tpr.photos import Photos


def reflected(points: Tensor, sizes: Tensor) -> Tensor:
    """Bring points [B, N, 2] beyond the border of images [B, 2] back in, as in a mirror."""
    sizes = sizes[:, None]
    beyond = torch.remainder(points + 0.5, 2 * sizes)
    return sizes - (sizes - beyond).abs() - 0.5


def cut(
    photos: Photos, chosen: list[int], to_photo: Tensor, where: Tensor, reach: Tensor, weights: Tensor, size: int
) -> Tensor:
    """Grey crops [B, 1, size, size] in [0, 1], each from the level of the photo's pyramid that fits its scale.

    Args:
        photos: where from.
        chosen: which photos, B of them.
        to_photo: [B, 3, 3] homographies (CPU) that say roughly where the crops lie.
        where: [B, size², 2] the exact places in the photos, row by row, on the photos' device.
        reach: [B] how far `where` may be from what `to_photo` says, photo pixels.
        weights: [B, 3] of the channels.
        size: side of the crops.
    """
    corners = apply_homography(to_photo, ((CORNERS + 0.5) * size - 0.5).expand(len(chosen), 4, 2))
    side = (corners - corners.roll(1, 1)).norm(dim=-1).mean(1) / size
    levels = side.clamp_min(1).log2().round().clamp(0, 2).int().tolist()
    scales = 2.0 ** torch.tensor(levels)[:, None]
    sizes = torch.tensor(
        [photos.levels[i][level].shape[:0:-1] for i, level in zip(chosen, levels, strict=True)], dtype=torch.float32
    )
    corners = (corners + 0.5) / scales[:, None] - 0.5
    low = corners.amin(1) - reach[:, None] / scales - 2
    high = corners.amax(1) + reach[:, None] / scales + 3
    below, above = (-low).clamp_min(0), (high - sizes).clamp_min(0)
    low = (low - above).clamp_min(0).floor().minimum(sizes - 1)
    high = (high + below).ceil().minimum(sizes)
    extent = int((high - low).max())
    device = where.device
    window = torch.zeros(len(chosen), 1, extent, extent, device=device)
    weights = (weights / 255).to(device)
    for b, (i, level, (x0, y0), (x1, y1)) in enumerate(
        zip(chosen, levels, low.int().tolist(), high.int().tolist(), strict=True)
    ):
        part = photos.levels[i][level][:, y0:y1, x0:x1].to(torch.float32)
        window[b, 0, : y1 - y0, : x1 - x0] = torch.tensordot(weights[b], part, 1)
    local = (where + 0.5) / scales.to(device)[:, None] - 0.5
    sizes = sizes.to(device)
    local = reflected(local, sizes).clamp_min(0).minimum(sizes[:, None] - 1) - low.to(device)[:, None]
    return sample(window, local).reshape(-1, 1, size, size)

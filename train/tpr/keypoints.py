"""From a score map to keypoints: local maxima, refined to a fraction of a pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def local_maxima(logits: Tensor, radius: int) -> Tensor:
    """Where [B, 1, H, W] is the largest within `radius` pixels: bool [B, 1, H, W]."""
    largest = logits
    for axis in (2, 3):
        largest = sliding_maximum(largest, radius, axis)
    return logits == largest


def sliding_maximum(values: Tensor, radius: int, axis: int) -> Tensor:
    """The maximum over 2 · radius + 1 neighbours along an axis of [B, 1, H, W]; several times as fast as max_pool2d."""
    pad = (0, 0, radius, radius) if axis == 2 else (radius, radius)
    padded = F.pad(values, pad, value=-torch.inf)
    length, width = values.shape[axis], 1
    wanted = 2 * radius + 1
    while width < wanted:
        step = min(width, wanted - width)
        size = padded.shape[axis] - step
        padded = torch.maximum(padded.narrow(axis, 0, size), padded.narrow(axis, step, size))
        width += step
    return padded.narrow(axis, 0, length)


def refine(logits: Tensor, points: Tensor) -> Tensor:
    """Move integer maxima to the top of the parabola through their neighbours, at most half a pixel.

    Args:
        logits: [H, W], or [B, H, W].
        points: int64 [N, 2] xy, or [B, N, 2], none on the map's border.

    Returns:
        float32 of the shape of `points`, with gradients to the logits.
    """
    width = logits.shape[-1]
    index = points[..., 1] * width + points[..., 0]
    flat = logits.flatten(-2)
    centre = flat.gather(-1, index)
    steps = []
    for stride in (1, width):
        before, after = flat.gather(-1, index - stride), flat.gather(-1, index + stride)
        curvature = (2 * centre - before - after).clamp_min(1e-6)
        steps.append(((after - before) / (2 * curvature)).clamp(-0.5, 0.5))
    return points.float() + torch.stack(steps, -1)


def strongest(logits: Tensor, count: int, radius: int = 2, border: int = 4) -> tuple[Tensor, Tensor]:
    """The highest local maxima of maps [B, 1, H, W]: int64 [B, count, 2], and which there are ([B, count] bool)."""
    width = logits.shape[-1]
    interior = torch.zeros_like(logits, dtype=torch.bool)
    interior[..., border:-border, border:-border] = True
    keys = logits.masked_fill(~(local_maxima(logits, radius) & interior), -torch.inf).flatten(1)
    values, top = keys.topk(count, 1)
    points = torch.stack([top % width, top // width], -1)
    exists = values > -torch.inf
    return points.where(exists[..., None], torch.full_like(points, border)), exists


def nearest_maximum(logits: Tensor, points: Tensor, radius: int = 2) -> tuple[Tensor, Tensor]:
    """The highest pixel within `radius` of points [B, N, 2] in maps [B, 1, H, W], and whether it is a local maximum.

    Returns:
        int64 [B, N, 2] xy, at least 1 off the border, and bool [B, N].
    """
    height, width = logits.shape[-2:]
    steps = torch.arange(-radius, radius + 1, device=logits.device)
    window = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    limit = torch.tensor([width - 2, height - 2], device=logits.device)
    around = (points.detach().round().long()[:, :, None] + window).clamp_min(1).minimum(limit)
    index = around[..., 1] * width + around[..., 0]
    values = logits.detach().flatten(1).gather(1, index.flatten(1)).reshape(index.shape)
    best = index.gather(2, values.argmax(2, keepdim=True))[..., 0]
    peak = local_maxima(logits.detach(), 1).flatten(1).gather(1, best)
    return torch.stack([best % width, best // width], -1), peak


def detect(
    logits: Tensor, limit: int, radius: int = 2, border: int = 4, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The strongest keypoints of one score map.

    Args:
        logits: [H, W].
        limit: at most so many.
        radius: no two keypoints lie closer than this, pixels.
        border: none lies closer to the border than this, at least 1.
        mask: bool [H, W], False where none may lie.

    Returns:
        Points [N, 2] xy in pixels and scores [N] in (0, 1), descending.
    """
    height, width = logits.shape
    allowed = local_maxima(logits[None, None], radius)[0, 0]
    inside = torch.zeros_like(allowed)
    inside[border : height - border, border : width - border] = True
    allowed &= inside
    if mask is not None:
        allowed &= mask
    flat = allowed.flatten().nonzero()[:, 0]
    scores = logits.flatten()[flat]
    scores, order = scores.topk(min(limit, len(scores)))
    flat = flat[order]
    points = torch.stack([flat % width, flat // width], -1)
    return refine(logits, points), scores.sigmoid()

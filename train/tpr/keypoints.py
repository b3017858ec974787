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
        logits: [H, W].
        points: int64 [N, 2] xy, none on the map's border.

    Returns:
        float32 [N, 2].
    """
    x, y = points.unbind(-1)
    centre = logits[y, x]
    steps = []
    for before, after in ((logits[y, x - 1], logits[y, x + 1]), (logits[y - 1, x], logits[y + 1, x])):
        curvature = (2 * centre - before - after).clamp_min(1e-6)
        steps.append(((after - before) / (2 * curvature)).clamp(-0.5, 0.5))
    return points.float() + torch.stack(steps, -1)


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

"""Where keypoints lie: the two views' score maps shall peak at the same scene points."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tpr.geometry import apply_homography, pixel_grid


def warp_map(values: Tensor, forward: Tensor, margin: float = 2.0) -> tuple[Tensor, Tensor]:
    """Bring a map [B, 1, H, W] of the second view into the first view's pixels, and say where it is valid ([B, 1, H, W])."""
    height, width = values.shape[-2:]
    there = apply_homography(forward, pixel_grid(height, width, values.device).expand(len(values), -1, -1))
    size = there.new_tensor([width, height])
    valid = ((there >= margin) & (there <= size - 1 - margin)).all(-1)
    grid = ((2 * there + 1) / size - 1).reshape(len(values), height, width, 2)
    warped = F.grid_sample(values, grid, align_corners=False, padding_mode="border")
    return warped, valid.reshape(values.shape)


def windows(values: Tensor, side: int, offset: tuple[int, int]) -> Tensor:
    """Cut [B, 1, H, W] into whole windows of side x side that start at `offset` (y, x): [B, M, side²]."""
    values = values[..., offset[0] :, offset[1] :]
    height, width = (size // side * side for size in values.shape[-2:])
    return F.unfold(values[..., :height, :width], side, stride=side).transpose(1, 2)


def peak_agreement_loss(
    logits: Tensor, other: Tensor, valid: Tensor, side: int, offset: tuple[int, int], sharpening: float
) -> Tensor:
    """Cross-entropy of each window's softmax against the sharpened agreement of both views.

    p_t = softmax((S + S') / (2 T)), T < 1, without gradient; L = −½ Σ_u p_t(u) [log p(u) + log p'(u)], less the
    entropy of p_t and divided by log of the window's pixels. Repeatability (both must peak at the same scene point)
    and peakiness (the target is sharper than either) in one term, without labels.

    Args:
        logits: S [B, 1, H, W] of the first view.
        other: S' [B, 1, H, W], the second view's, warped into the first.
        valid: [B, 1, H, W] bool; only windows that are valid throughout count.
        side: side of the windows, pixels.
        offset: where the first window starts (y, x), drawn at random so that no place in a window is special.
        sharpening: T.
    """
    first, second = windows(logits, side, offset), windows(other, side, offset)
    whole = windows(valid.to(logits.dtype), side, offset).amin(-1) > 0
    with torch.no_grad():
        target = F.softmax((first + second) / (2 * sharpening), -1)
        entropy = -(target * target.clamp_min(1e-9).log()).sum(-1)
    both = (F.log_softmax(first, -1) + F.log_softmax(second, -1)) / 2
    divergence = -(target * both).sum(-1) - entropy
    scale = torch.log(torch.tensor(float(side * side)))
    return (divergence * whole).sum() / whole.sum().clamp_min(1) / scale

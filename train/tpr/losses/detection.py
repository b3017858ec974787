"""Where keypoints lie: the score maps of two views shall peak at the same scene points, sharply and exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def windows(values: Tensor, side: int, offset: tuple[int, int] = (0, 0)) -> Tensor:
    """Cut [B, 1, H, W] into whole windows of side x side that start at `offset` (y, x): [B, M, side²]."""
    values = values[..., offset[0] :, offset[1] :]
    height, width = (size // side * side for size in values.shape[-2:])
    return F.unfold(values[..., :height, :width], side, stride=side).transpose(1, 2)


def peak_agreement_loss(
    logits: Tensor, other: Tensor, valid: Tensor, side: int, offset: tuple[int, int], sharpening: float
) -> Tensor:
    """Cross-entropy of each window's softmax against the sharpened agreement of both views.

    p_t = softmax((S + S') / (2 T)) without gradient; L = −½ Σ_u p_t(u) [log p(u) + log p'(u)], less the entropy of p_t
    and divided by log of the window's pixels. Repeatability (both must peak at the same scene point) without
    labels; with T < 1 the target is sharper than either view, so it asks for peaks as well.

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
    return (divergence * whole).sum() / whole.sum().clamp_min(1) / math.log(side * side)


def peakiness_loss(logits: Tensor, side: int, offset: tuple[int, int] = (0, 0)) -> Tensor:
    """1 − the mean over windows of (max_u s(u) − mean_u s(u)), s the sigmoid of the logits [B, 1, H, W].

    Source: R2D2 (Revaud et al., NeurIPS 2019).
    """
    scores = windows(logits, side, offset).sigmoid()
    return 1 - (scores.amax(-1) - scores.mean(-1)).mean()


def subpixel_loss(found: Tensor, other: Tensor, valid: Tensor, scale: float = 1.0) -> Tensor:
    """Σ_c ρ(‖W(x_c) − x'_c‖) / |C|, ρ(e) = √(1 + (e / a)²) − 1: peaks of both views shall refine to one scene point.

    Args:
        found: W(x_c) [B, N, 2], the first view's refined peaks, brought into the second view, pixels.
        other: x'_c [B, N, 2], the second view's refined peaks nearby.
        valid: [B, N] bool.
        scale: a, pixels, beyond which the loss grows but linearly.
    """
    squared = ((found - other) / scale).square().sum(-1)
    return (((1 + squared).sqrt() - 1) * valid).sum() / valid.sum().clamp_min(1)


def reliability_loss(logits: Tensor, similarity: Tensor, valid: Tensor) -> Tensor:
    """The score of a point shall be the similarity that its descriptors reach across views.

    L = −mean_c [r_c log s_c + (1 − r_c) log(1 − s_c)], r_c = max(0, ⟨y_c, y'_c⟩) without gradient, s_c = σ(logit):
    the expected predictability of a place, which is what the paper's weights s_c s'_c reward, without the trivial
    optimum of putting all weight on a few easy points.

    Args:
        logits: [B, N] at the points.
        similarity: ⟨y_c, y'_c⟩ [B, N].
        valid: [B, N] bool.
    """
    target = similarity.detach().clamp(0, 1)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * valid).sum() / valid.sum().clamp_min(1)

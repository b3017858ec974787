"""Detection without a head of its own: where feature maps peak, in space and among channels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def over_neighbours(x: Tensor, combine: Callable[[Tensor, Tensor], Tensor], dilation: int = 1) -> Tensor:
    """Combine each value of [B, C, H, W] with its eight neighbours, `dilation` cells away; the border is repeated."""
    x = F.pad(x, (dilation,) * 4, mode="replicate")
    for axis in (2, 3):
        inner = x.shape[axis] - 2 * dilation
        before, centre, after = (x.narrow(axis, i * dilation, inner) for i in range(3))
        x = combine(combine(before, centre), after)
    return x


def soft_detection(features: Tensor, floor: float = 1e-6) -> Tensor:
    """log γ, γ = max_k α^k β^k, of features D [B, C, H, W]: [B, 1, H, W], at most 0.

    α^k = exp D^k / Σ_neighbours exp D^k, a soft local maximum over 3x3 cells; β^k = D^k / max_t D^t, the ratio to the
    largest channel; D is cut at `floor` from below. The softmax of the result over a region is the paper's normalised
    score there. Source: D2-Net (Dusmanu et al., CVPR 2019), equations 3 to 6.
    """
    features = features.clamp_min(floor)
    local = features - over_neighbours(features, torch.logaddexp)
    ratio = features.log() - features.amax(1, keepdim=True).log()
    return (local + ratio).amax(1, keepdim=True)


def peakiness(features: Tensor, dilation: int) -> Tensor:
    """γ = max_k α^k β^k of features y [B, C, H, W]: [B, 1, H, W], positive.

    α^k = softplus(y^k − mean of y^k over the cell and its eight neighbours, `dilation` cells away);
    β^k = softplus(y^k − mean_t y^t). Source: ASLFeat (Luo et al., CVPR 2020), equations 6 to 8.
    """
    local = F.softplus(features - over_neighbours(features, torch.add, dilation) / 9)
    among = F.softplus(features - features.mean(1, keepdim=True))
    return (local * among).amax(1, keepdim=True)


def relative(log_scores: Tensor) -> Tensor:
    """The log of scores [B, 1, H, W] divided by their mean over each image: 0 is an average place.

    D2-Net divides by the sum; by the mean, large images score no lower.
    """
    mean = log_scores.logsumexp((2, 3), keepdim=True) - math.log(log_scores[0].numel())
    return log_scores - mean

"""The paper's objective: predict the target's descriptor of the same scene point, weighted by the detections."""

from __future__ import annotations

import torch
from torch import Tensor


def prediction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """L_pred^c = 1 − ⟨y_c, y'_c⟩ of unit descriptors [..., D] -> [...]. Source: TPR, CVPR 2023."""
    return 1 - (predicted * target).sum(-1)


def soft_labels(predicted: Tensor, target: Tensor, alpha: float, temperature: float) -> Tensor:
    """l_c = exp(−α (1 − ⟨y_c, y'_c⟩) / λ) in (0, 1], from the previous generation's unit descriptors [..., D].

    α = 0 makes every label 1. Source: TPR, CVPR 2023, generation learning.
    """
    return torch.exp(-alpha * prediction_loss(predicted, target) / temperature)


def weighted_loss(
    loss: Tensor, scores: Tensor, other_scores: Tensor, valid: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Σ_c [s_c s'_c / Σ_n s_n s'_n] |l_c − (1 − L_c)|, over the valid points of a batch, per image, then the mean.

    With labels of 1 this is L_hard; else L_soft, the distance of the similarity to its label. The constant 1 / |C| of
    the paper is left out. Source: TPR, CVPR 2023.

    Args:
        loss: L_pred [B, N].
        scores: s_c [B, N] in (0, 1), in the first view.
        other_scores: s'_c [B, N], in the second.
        valid: [B, N] bool.
        labels: l_c [B, N]; None means 1.
    """
    if labels is not None:
        loss = (labels - (1 - loss)).abs()
    weight = scores * other_scores * valid
    return ((weight * loss).sum(1) / weight.sum(1).clamp_min(1e-6)).mean()

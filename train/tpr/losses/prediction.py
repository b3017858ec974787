"""The paper's objective: predict the target's descriptor of the same scene point, weighted by the detections."""

from __future__ import annotations

import torch
from torch import Tensor


def prediction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """L_pred^c = 1 − ⟨y_c, y'_c⟩ of unit descriptors [..., D] -> [...]. Source: TPR, CVPR 2023."""
    return 1 - (predicted * target).sum(-1)


def soft_labels(first: Tensor, second: Tensor, alpha: float, temperature: float) -> Tensor:
    """l_c = exp(−α (1 − ⟨y_c, y'_c⟩) / λ) in (0, 1], from a teacher's unit descriptors [..., D] of both views -> [...].

    α = 0 makes every label 1. Source: TPR, CVPR 2023, generation learning.
    """
    return torch.exp(-alpha * prediction_loss(first, second) / temperature)


def hard_loss(loss: Tensor, scores: Tensor, other_scores: Tensor, valid: Tensor) -> Tensor:
    """L_hard = Σ_c [s_c s'_c / Σ_n s_n s'_n] L_pred^c over an image's valid points, then the mean over images.

    The constant 1 / |C| of the paper is left out. Source: TPR, CVPR 2023.

    Args:
        loss: L_pred [B, N].
        scores: s_c [B, N] in (0, 1), in the first view.
        other_scores: s'_c [B, N], in the second.
        valid: [B, N] bool.
    """
    weight = scores * other_scores * valid
    return ((weight * loss).sum(1) / weight.sum(1).clamp_min(1e-6)).mean()


def soft_loss(loss: Tensor, labels: Tensor, scores: Tensor, other_scores: Tensor, valid: Tensor) -> Tensor:
    """L_soft: |l_c − (1 − L_pred^c)| in place of L_pred^c in L_hard; the same where every label l_c [B, N] is 1.

    The distance of the similarity to its label: what is printed, l_c + 1 − L_pred^c, would push the similarity down.
    """
    return hard_loss((labels - (1 - loss)).abs(), scores, other_scores, valid)

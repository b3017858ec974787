"""Relational prediction: how a point relates to all points of a view, predicted across the views."""

from __future__ import annotations

from torch import Tensor


def relation_loss(predicted: Tensor, target: Tensor, valid: Tensor, temperature: float, teacher: float) -> Tensor:
    """Cross-entropy between the target's own relations and those of the other view's descriptors to it.

    The label of point c over the points d of a view is softmax_d(⟨t_c, t_d⟩ / T'), of the target's descriptors alone:
    nearly all of it lies on c itself, and on what the target encoder can't tell from c. The prediction is
    softmax_d(⟨y'_c, t_d⟩ / T), y'_c the online descriptor of the same scene point in the other view. So no pair of
    points is named as one that doesn't match: places that look alike may stay alike, and a point that is found
    already moves little. As T' falls to 0 the labels become certain, and this becomes InfoNCE.
    Source: ReSSL (Zheng et al., NeurIPS 2021), there between images.

    Args:
        predicted: y' [B, N, D], unit length, of the other view.
        target: t [B, N, D], unit length, without gradient.
        valid: [B, N] bool.
        temperature: T.
        teacher: T', below T.
    """
    absent = ~valid[:, None, :]
    labels = (target @ target.transpose(1, 2) / teacher).masked_fill(absent, -1e4).softmax(2)
    logits = (predicted @ target.transpose(1, 2) / temperature).masked_fill(absent, -1e4)
    loss = -(labels * logits.log_softmax(2)).sum(2)
    return (loss * valid).sum() / valid.sum().clamp_min(1)

"""What holds the rank of the descriptors up without a negative pair: terms on the statistics of each image's points."""

from __future__ import annotations

import torch
from torch import Tensor


def centre(descriptors: Tensor, valid: Tensor) -> Tensor:
    """Take each image's mean over its valid points from descriptors [B, N, D]; invalid points become 0."""
    weight = valid[..., None].to(descriptors.dtype)
    mean = (descriptors * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
    return (descriptors - mean) * weight


def standardized(descriptors: Tensor, valid: Tensor, eps: float = 1e-4) -> Tensor:
    """Descriptors [B, N, D] centred within each image, then each channel with unit variance over the batch's valid points.

    What an image's points have in common tells none from another, and a channel that hardly varies counts as much as
    one that does: neither an image-wide constant nor a few loud channels can satisfy a loss on these.
    """
    centred = centre(descriptors, valid)
    variance = centred.square().sum((0, 1)) / valid.sum().clamp_min(2)
    return centred / (variance + eps).sqrt()


def cross_correlation(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Correlation of the channels of two views over the valid points of all images, each standardized: [D, D]."""
    first, second = standardized(first, valid).flatten(0, 1), standardized(second, valid).flatten(0, 1)
    return first.T @ second / valid.sum().clamp_min(2)


def decorrelation_loss(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Σ_{i≠j} C_ij² / D of the cross-correlation C of two views' descriptors [B, N, D], centred within each image.

    Source: the redundancy term of Barlow Twins (Zbontar et al., ICML 2021), with the mean of each image taken away.
    """
    correlation = cross_correlation(first, second, valid)
    off_diagonal = correlation - torch.diag(torch.diagonal(correlation))
    return off_diagonal.square().sum() / len(correlation)


def invariance_loss(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Σ_i (1 − C_ii)² / D of the same cross-correlation. Source: Barlow Twins."""
    return (1 - torch.diagonal(cross_correlation(first, second, valid))).square().mean()


def coding_rate_loss(descriptors: Tensor, valid: Tensor, eps: float = 0.5) -> Tensor:
    """−½ log det(I + D / ε² Cov_b) / D, the mean over images b, of unit descriptors [B, N, D] centred within each image.

    The volume that an image's descriptors fill; weak directions weigh most. Source: MCR² (Yu et al., NeurIPS 2020).
    """
    dim = descriptors.shape[-1]
    centred = centre(descriptors, valid)
    count = valid.sum(1).clamp_min(2)[:, None, None]
    covariance = centred.transpose(1, 2) @ centred / count
    identity = torch.eye(dim, device=descriptors.device)
    return -torch.logdet(identity + dim / eps**2 * covariance).mean() / (2 * dim)


@torch.no_grad()
def effective_rank(descriptors: Tensor, valid: Tensor) -> Tensor:
    """exp of the entropy of the normalised spectrum of descriptors [B, N, D], centred within each image: 1 to D.

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007.
    """
    centred = centre(descriptors, valid).flatten(0, 1)
    spectrum = torch.linalg.eigvalsh((centred.T @ centred).double()).clamp_min(0)
    share = spectrum / spectrum.sum().clamp_min(1e-12)
    return torch.exp(-(share * (share + 1e-12).log()).sum())

"""What holds the rank of the descriptors up without a negative pair: statistics of the points of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def centred(descriptors: Tensor, valid: Tensor) -> Tensor:
    """Descriptors [B, N, D] less each image's mean over its valid points; invalid points become 0.

    `valid` [B, N] may be weights instead: the mean is then weighted, and each point scaled by the root of its weight,
    so that sums of products are weighted sums.
    """
    weight = valid[..., None].to(descriptors.dtype)
    mean = (descriptors * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
    return (descriptors - mean) * weight.sqrt()


def standardized(descriptors: Tensor, valid: Tensor, eps: float = 1e-4) -> Tensor:
    """Descriptors [B, N, D] centred within each image, then each channel of unit variance over the batch.

    What an image's points have in common tells none from another, and a channel that hardly varies counts as much as
    one that does: neither an image-wide constant nor a few loud channels can satisfy a loss on these.
    """
    difference = centred(descriptors, valid)
    variance = difference.square().sum((0, 1)) / valid.sum().clamp_min(2)
    return difference / (variance + eps).sqrt()


def whitened(descriptors: Tensor, valid: Tensor, eps: float = 1e-3) -> Tensor:
    """Descriptors [B, N, D], centred within each image, times L⁻ᵀ, L Lᵀ their covariance over the batch.

    All directions vary alike, so no loss on these can be satisfied by descriptors of low rank. `eps` is relative to the
    mean variance. Source: Ermolov et al., Whitening for self-supervised representation learning, ICML 2021.
    """
    difference = centred(descriptors, valid)
    flat = difference.flatten(0, 1)
    covariance = flat.T @ flat / valid.sum().clamp_min(2)
    ridge = eps * covariance.diagonal().mean() + 1e-8
    identity = torch.eye(len(covariance), device=flat.device, dtype=flat.dtype)
    lower = torch.linalg.cholesky_ex(covariance + ridge * identity).L
    return torch.linalg.solve_triangular(lower, flat.T, upper=False).T.reshape(difference.shape)


def cross_correlation(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Correlation of the channels of two views over the valid points of all images, each standardized: [D, D]."""
    first, second = standardized(first, valid).flatten(0, 1), standardized(second, valid).flatten(0, 1)
    return first.T @ second / valid.sum().clamp_min(2)


def off_diagonal(matrix: Tensor) -> Tensor:
    """A square matrix with its diagonal set to 0."""
    return matrix - torch.diag(torch.diagonal(matrix))


def invariance_loss(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Σ_i (1 − C_ii)² / D of the cross-correlation C of two views' descriptors [B, N, D], centred within each image.

    Source: Barlow Twins (Zbontar et al., ICML 2021), with the mean of each image taken away.
    """
    return (1 - torch.diagonal(cross_correlation(first, second, valid))).square().mean()


def decorrelation_loss(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Σ_{i≠j} C_ij² / D of the same cross-correlation C. Source: the redundancy term of Barlow Twins.

    Channels that differ between the views are uncorrelated too: without a term that holds the views together by
    channel it does not keep the rank up.
    """
    return off_diagonal(cross_correlation(first, second, valid)).square().sum() / first.shape[-1]


def covariance_loss(descriptors: Tensor, valid: Tensor) -> Tensor:
    """Σ_{i≠j} C_ij² / D of the correlation C of one view's channels [B, N, D], centred within each image.

    Source: the covariance term of VICReg (Bardes et al., ICLR 2022), on standardized channels.
    """
    return off_diagonal(cross_correlation(descriptors, descriptors, valid)).square().sum() / descriptors.shape[-1]


def coding_rate_loss(descriptors: Tensor, valid: Tensor, eps: float = 0.5) -> Tensor:
    """−½ log det(I + D / ε² Cov_b) / D, the mean over images b, of unit descriptors [B, N, D].

    Cov_b is the covariance within the image, so this is the volume that its descriptors fill; weak directions weigh
    most. Source: MCR² (Yu et al., NeurIPS 2020).
    """
    dim = descriptors.shape[-1]
    difference = centred(descriptors, valid)
    count = valid.sum(1).clamp_min(2)[:, None, None]
    covariance = difference.transpose(1, 2) @ difference / count
    identity = torch.eye(dim, device=descriptors.device, dtype=descriptors.dtype)
    return -torch.logdet(identity + dim / eps**2 * covariance).mean() / (2 * dim)


def moment_loss(descriptors: Tensor, valid: Tensor, order: int) -> Tensor:
    """log of the mean of ⟨y_c, y_d⟩^p over the pairs c ≠ d of an image's points, over its value for random directions.

    Decorrelation of a higher order: that mean is ‖E[m mᵀ]‖², m the vector of all products of p / 2 channels, as the
    second moment is the squared norm of the channels' covariance. The higher the order, the more it is a matter of the
    points that are most alike. Random directions have 1 · 3 · ... (p − 1) / (D (D + 2) ... (D + p − 2)): loss 0.

    Args:
        descriptors: [B, N, D], unit length.
        valid: [B, N] bool.
        order: p, an even number.
    """
    dim, given = descriptors.shape[-1], descriptors * valid[..., None]
    expected = math.prod((k + 1) / (dim + k) for k in range(0, order, 2))
    similarity = given @ given.transpose(1, 2)
    power = (similarity.square() / expected ** (2 / order)) ** (order // 2)
    different = power.sum((1, 2)) - power.diagonal(dim1=1, dim2=2).sum(1)
    count = valid.sum(1)
    return torch.log(different / (count * (count - 1)).clamp_min(1) + 1e-6).mean()


@torch.no_grad()
def effective_rank(descriptors: Tensor, valid: Tensor) -> Tensor:
    """exp of the entropy of the normalised spectrum of descriptors [B, N, D], centred within each image: 1 to D.

    Not a number where a descriptor isn't. Source: Roy and Vetterli, The effective rank, EUSIPCO 2007.
    """
    difference = centred(descriptors, valid).flatten(0, 1)
    covariance = (difference.T @ difference).double()
    spectrum = torch.linalg.eigvalsh(covariance.nan_to_num()).clamp_min(0)
    share = spectrum / spectrum.sum().clamp_min(1e-12)
    return torch.exp(-(share * (share + 1e-12).log()).sum()) + 0 * covariance.sum()


@torch.no_grad()
def spread(descriptors: Tensor, valid: Tensor) -> Tensor:
    """Mean squared distance of unit descriptors [B, N, D] from their image's mean: 0 where all are the same, to 1."""
    return centred(descriptors, valid).square().sum() / valid.sum().clamp_min(1)

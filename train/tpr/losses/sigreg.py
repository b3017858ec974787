"""SIGReg: descriptors distributed as a standard Gaussian, without a negative pair.

Source: LeJEPA (Balestriero and LeCun, 2025): sketched isotropic Gaussian regularization, the Epps-Pulley test of random
one-dimensional projections.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def random_directions(count: int, dim: int, generator: torch.Generator, device: torch.device | str) -> Tensor:
    """Unit vectors of uniformly random direction: [dim, count]."""
    return F.normalize(torch.randn(dim, count, generator=generator), dim=0).to(device)


def sigreg_loss(descriptors: Tensor, valid: Tensor, directions: Tensor, limit: float = 5.0, knots: int = 9) -> Tensor:
    """∫ |φ̂_a(t) − exp(−t²/2)|² exp(−t²/2) dt, the mean over directions a and images, of unit descriptors.

    φ̂_a(t) = mean_c exp(i t √D ⟨a, y_c⟩) is the empirical characteristic function of an image's points along a. Unit
    vectors spread evenly over the sphere, times √D, have all but the standard Gaussian's, so the loss is near 0;
    where all are the same, it is greatest. Linear in the number of points.

    Args:
        descriptors: [B, N, D], unit length.
        valid: [B, N] bool, or weights.
        directions: [D, A], unit length; drawn anew each step.
        limit: the integral reaches from −limit to limit.
        knots: of the trapezoidal rule on [0, limit]; the integrand is even.
    """
    t = torch.linspace(0, limit, knots, dtype=descriptors.dtype, device=descriptors.device)
    gaussian = torch.exp(-t.square() / 2)
    along = descriptors @ directions * descriptors.shape[-1] ** 0.5
    angle = along[..., None] * t
    weight = valid.to(descriptors.dtype)
    weight = (weight / weight.sum(1, keepdim=True).clamp_min(1e-6))[:, :, None, None]
    real, imaginary = (angle.cos() * weight).sum(1), (angle.sin() * weight).sum(1)
    distance = (real - gaussian).square() + imaginary.square()
    return 2 * torch.trapezoid(distance * gaussian, t, dim=-1).mean()

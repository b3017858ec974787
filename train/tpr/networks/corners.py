"""Where corners are, without learning: the detector's starting point."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CornerLogits(nn.Module):
    """Log Shi-Tomasi response of images of unit variance: [B, 1, H, W] -> [B, 1, H, W].

    log(λ_min + ε) − ½ log ε, with λ_min of the structure tensor, smoothed by a Gaussian of σ pixels: below zero where
    there is little but noise. Source: Shi and Tomasi, Good Features to Track, CVPR 1994.
    """

    def __init__(self, sigma: float = 1.5, floor: float = 1e-3):
        super().__init__()
        taps = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(int(2 * sigma + 0.5) + 1)]
        total = 2 * sum(taps) - taps[0]
        self.taps = [tap / total for tap in taps]
        self.floor = floor

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        dx, dy = sobel(image)
        tensor = torch.cat([dx * dx, dy * dy, dx * dy], 1)
        xx, yy, xy = smooth(smooth(tensor, self.taps, 2), self.taps, 3).split(1, 1)
        half = (xx - yy) / 2
        smaller = (xx + yy) / 2 - (half * half + xy * xy).sqrt()
        return torch.log(smaller.clamp_min(0) + self.floor) - 0.5 * math.log(self.floor)


def sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives along x and y of [B, 1, H, W], per pixel."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    columns = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    rows = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return (columns[..., 2:] - columns[..., :-2]) / 8, (rows[:, :, 2:] - rows[:, :, :-2]) / 8


def smooth(values: Tensor, taps: list[float], axis: int) -> Tensor:
    """Symmetric filter along an axis of [B, C, H, W], zeros beyond the border; `taps` from the centre outwards.

    Shifted sums, since PyTorch's convolutions of few channels are several times as slow on a CPU.
    """
    radius, length = len(taps) - 1, values.shape[axis]
    padded = F.pad(values, (0, 0, radius, radius) if axis == 2 else (radius, radius))
    out = taps[0] * values
    for offset, tap in enumerate(taps[1:], 1):
        both = padded.narrow(axis, radius - offset, length) + padded.narrow(axis, radius + offset, length)
        out.add_(both, alpha=tap)
    return out

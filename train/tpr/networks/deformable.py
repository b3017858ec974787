"""Deformable convolution, version 2, on `grid_sample`: runs wherever PyTorch does."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def deformable_conv2d(x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    """Modulated deformable convolution: each output cell has its own offsets and weights of the taps.

    y(p) = Σ_k w_k m_k(p) x(p + p_k + Δp_k(p)), x read bilinearly, 0 outside; p_k runs over the kernel's cells.
    Source: Deformable ConvNets v2 (Zhu et al., CVPR 2019), equation 1.

    Args:
        x: [B, C, H, W].
        weight: w [O, C, K, K], K odd.
        offset: Δp [B, K², 2, H, W] xy, in cells; taps row by row.
        mask: m [B, K², H, W].

    Returns:
        [B, O, H, W].
    """
    batch, channels, height, width = x.shape
    kernel = weight.shape[-1]
    exact = torch.promote_types(x.dtype, torch.float32)
    reach = torch.arange(kernel, device=x.device, dtype=exact) - kernel // 2
    columns, rows = (torch.arange(size, device=x.device, dtype=exact) for size in (width, height))
    tap_x, tap_y = reach.repeat(kernel), reach.repeat_interleave(kernel)
    place_x = offset[:, :, 0] + (tap_x[:, None, None] + columns)
    place_y = offset[:, :, 1] + (tap_y[:, None, None] + rows[:, None])
    grid = torch.stack([(2 * place_x + 1) / width - 1, (2 * place_y + 1) / height - 1], -1)
    sampled = F.grid_sample(x.to(exact), grid.flatten(1, 2), align_corners=False, padding_mode="zeros")
    sampled = sampled.reshape(batch, channels, kernel * kernel, height, width) * mask[:, None]
    return F.conv2d(sampled.flatten(1, 2).to(x.dtype), weight.reshape(len(weight), -1, 1, 1))


class DeformableConv2d(nn.Module):
    """`deformable_conv2d` whose offsets and mask a plain convolution reads off the same input.

    It starts with no offset and each tap at half weight.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.offset_mask = nn.Conv2d(inputs, 3 * kernel * kernel, kernel, padding=kernel // 2)
        for parameter in self.offset_mask.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.weight[0, 0].numel()
        offset, mask = self.offset_mask(x).split([2 * taps, taps], 1)
        return deformable_conv2d(x, self.weight, offset.unflatten(1, (taps, 2)), mask.sigmoid())

"""Self-attention within windows of a map, which may be shifted (Swin Transformer)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def split_windows(x: Tensor, side: int) -> Tensor:
    """Cut [B, H, W, C] into windows, row by row: [B, M, side², C]."""
    x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def join_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `split_windows`: [B, M, side², C] -> [B, height, width, C]."""
    side = round(windows.shape[2] ** 0.5)
    x = windows.unflatten(2, (side, side)).unflatten(1, (height // side, width // side))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_index(side: int) -> Tensor:
    """Which of the (2 · side − 1)² displacements leads from one cell of a window to another: int64 [side², side²]."""
    cells = torch.arange(side * side)
    y, x = cells // side, cells % side
    dy, dx = y[:, None] - y + side - 1, x[:, None] - x + side - 1
    return dy * (2 * side - 1) + dx


def separate(height: int, width: int, padded: tuple[int, int], side: int, shift: int, device: torch.device) -> Tensor:
    """−inf between cells that share a window only through the roll or the padding, else 0: [M, side², side²]."""

    def kinds(size: int, whole: int) -> Tensor:
        cells = torch.arange(whole, device=device)
        return (cells < shift) + 2 * (cells >= size)

    labels = 4 * kinds(height, padded[0])[:, None] + kinds(width, padded[1])
    labels = split_windows(labels.roll((-shift, -shift), (0, 1))[None, :, :, None], side)[0, :, :, 0]
    apart = labels[:, :, None] != labels[:, None, :]
    return torch.zeros(apart.shape, device=device).masked_fill(apart, -torch.inf)


class WindowAttention(nn.Module):
    """Attention among the cells of each window, with a learned bias for each displacement: [B, H, W, C] -> the same.

    Source: Swin Transformer (Liu et al., ICCV 2021), equation 4. Sides that are no multiple of the window are padded;
    no cell attends to the padding, nor across the border where the shift wraps the map around.

    Args:
        channels: C.
        heads: attention heads.
        window: side of the windows, cells.
        shift: how far the windows' grid is moved, cells.
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.empty(heads, (2 * window - 1) ** 2))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.relative: Tensor
        self.register_buffer("relative", relative_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        side, shift = self.window, self.shift
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        padded = (x.shape[1], x.shape[2])
        x = split_windows(x.roll((-shift, -shift), (1, 2)), side)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        weights = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + self.bias[:, self.relative]
        if shift or padded != (height, width):
            weights = weights + separate(height, width, padded, side, shift, x.device)[:, None].to(weights.dtype)
        x = (weights.softmax(-1) @ value).transpose(2, 3).flatten(3)
        x = join_windows(self.project(x), *padded).roll((shift, shift), (1, 2))
        return x[:, :height, :width]

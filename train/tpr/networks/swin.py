"""`swin`: a Swin Transformer from quarter resolution down, brought back up by a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tpr.networks.base import Dense, Network, standardize, upsample
from tpr.networks.corners import CornerLogits
from tpr.networks.s import conv
from tpr.networks.windows import WindowAttention


class Block(nn.Module):
    """Window attention and a two-layer perceptron, each around a normalised input: [B, H, W, C] -> the same."""

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window, shift)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.perceptron(x)


class Merge(nn.Module):
    """2x2 cells into one of twice the channels: [B, H, W, C] -> [B, H / 2, W / 2, 2C]."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduce = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        return self.reduce(self.norm(x.transpose(2, 3).flatten(3)))


class Swin(Network):
    """Convolutions to quarter resolution, stages of shifted-window attention there and below, a feature pyramid.

    Detection: the log corner response of the image, corrected by logits learned at half and at quarter resolution.
    Sources: Swin Transformer (Liu et al., ICCV 2021); Feature Pyramid Networks (Lin et al., CVPR 2017); a stem of
    convolutions instead of flat patches: Early Convolutions Help Transformers See Better (Xiao et al., NeurIPS 2021).

    Args:
        dim: descriptor dimension.
        width: channels at quarter resolution; each stage doubles them.
        depths: blocks of each stage, the first at quarter resolution.
        window: side of the attention windows, cells.
        head: channels of one attention head; it must divide `width`.
    """

    stride = 4

    def __init__(
        self, dim: int = 128, width: int = 96, depths: Sequence[int] = (2, 2, 6), window: int = 8, head: int = 32
    ):
        super().__init__()
        if width % head:
            raise ValueError(f"swin: a width of {width} doesn't divide into heads of {head} channels")
        self.dim = dim
        self.multiple = 4 * 2 ** (len(depths) - 1)
        self.at_half = nn.Sequential(conv(1, width // 2, 4, 2), conv(width // 2, width // 2))
        self.at_quarter = nn.Sequential(nn.Conv2d(width // 2, width, 2, 2, bias=False), nn.BatchNorm2d(width))
        channels = [width * 2**level for level in range(len(depths))]
        self.merges = nn.ModuleList(Merge(c) for c in channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(c, c // head, window, i % 2 * (window // 2)) for i in range(depth)))
            for c, depth in zip(channels, depths, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels)
        self.apply(initialize)
        self.laterals = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in channels)
        self.merge = conv(dim, dim)
        self.describe = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.BatchNorm2d(dim, affine=False))
        self.detect_quarter = nn.Conv2d(dim, 16, 1)
        self.detect_half = nn.Conv2d(width // 2, 4, 3, 1, 1)
        self.corners = CornerLogits()
        for layer in (self.detect_quarter, self.detect_half):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def pyramid(self, quarter: Tensor) -> Tensor:
        """All stages, gathered at quarter resolution: [B, width, h, w] -> [B, dim, h, w]."""
        x = quarter.permute(0, 2, 3, 1)
        levels = []
        for i, (stage, norm, lateral) in enumerate(zip(self.stages, self.norms, self.laterals, strict=True)):
            x = stage(self.merges[i - 1](x) if i else x)
            levels.append(lateral(norm(x).permute(0, 3, 1, 2)))
        merged = levels.pop()
        while levels:
            merged = levels.pop() + upsample(merged, 2)
        return self.merge(F.relu(merged))

    def dense(self, image: Tensor) -> Dense:
        image = standardize(image)
        half = self.at_half(image.contiguous(memory_format=torch.channels_last))
        quarter = self.pyramid(self.at_quarter(half))
        learned = F.pixel_shuffle(self.detect_quarter(quarter), 4) + F.pixel_shuffle(self.detect_half(half), 2)
        return Dense((self.describe(quarter),), self.corners(image) + learned)


def initialize(module: nn.Module) -> None:
    """Small normal weights and no bias for each linear layer, as transformers start."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

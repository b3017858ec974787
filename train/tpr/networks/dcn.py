"""`dcn`: deformable convolutions at quarter resolution, keypoints where several levels peak, as in ASLFeat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tpr.networks.base import Dense, Network, standardize, upsample
from tpr.networks.deformable import DeformableConv2d
from tpr.networks.peaks import peakiness, relative
from tpr.networks.s import conv


def deformable(channels: int) -> nn.Sequential:
    """Deformable 3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(DeformableConv2d(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class DCN(Network):
    """Two convolutions at full resolution, two at half, two and three deformable ones at a quarter.

    Detection: the mean `peakiness` of the three levels, weighted 1, 2 and 3 from fine to coarse, their neighbours 3, 2
    and 1 cells away, each level enlarged to the image first; its log relative to the image's mean, times a learned
    sharpness (the score to that power).
    Source: ASLFeat (Luo et al., CVPR 2020). Its convolutions of stride 2 are 3x3; ours are 4x4, centred between pixels.

    Args:
        dim: descriptor dimension.
        widths: channels at full, half and quarter resolution.
    """

    stride = 4
    multiple = 4

    def __init__(self, dim: int = 128, widths: Sequence[int] = (32, 64, 128)):
        super().__init__()
        self.dim = dim
        full, half, quarter = widths
        self.at_full = nn.Sequential(conv(1, full), conv(full, full))
        self.at_half = nn.Sequential(conv(full, half, 4, 2), conv(half, half))
        self.at_quarter = nn.Sequential(
            conv(half, quarter, 4, 2), conv(quarter, quarter), *(deformable(quarter) for _ in range(3))
        )
        self.describe = nn.Sequential(nn.Conv2d(quarter, dim, 1), nn.BatchNorm2d(dim, affine=False))
        self.sharpness = nn.Parameter(torch.tensor(4.0))

    def dense(self, image: Tensor) -> Dense:
        full = self.at_full(standardize(image).contiguous(memory_format=torch.channels_last))
        half = self.at_half(full)
        quarter = self.at_quarter(half)
        score = peakiness(full, 3) + 2 * upsample(peakiness(half, 2), 2) + 3 * upsample(peakiness(quarter, 1), 4)
        return Dense((self.describe(quarter),), self.sharpness * relative(score.log()))

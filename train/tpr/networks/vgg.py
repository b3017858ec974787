"""`vgg`: VGG-16 up to conv4_3 that describes and detects with the same maps, as D2-Net does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tpr.networks.base import Dense, Network, standardize
from tpr.networks.peaks import relative, soft_detection
from tpr.networks.s import conv


def dilated(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution over every other cell, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=2, dilation=2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class VGG(Network):
    """VGG-16 with batch normalisation, its third pooling without stride and its fourth block dilated instead.

    Detection: `soft_detection` on the descriptors, relative to the image's mean, times a learned sharpness (the score
    to that power), enlarged bicubically: maxima lie about where a parabola through the cells has its top.
    Sources: Simonyan and Zisserman, ICLR 2015; D2-Net (Dusmanu et al., CVPR 2019), whose third pooling, 2x2 without
    stride, moves all by half a cell; ours is 3x3 and centred.

    Args:
        dim: descriptor dimension.
        widths: channels of the four blocks.
    """

    stride = 4
    multiple = 4

    def __init__(self, dim: int = 128, widths: Sequence[int] = (64, 128, 256, 512)):
        super().__init__()
        self.dim = dim
        first, second, third, fourth = widths
        self.features = nn.Sequential(
            *(conv(1, first), conv(first, first), nn.MaxPool2d(2)),
            *(conv(first, second), conv(second, second), nn.MaxPool2d(2)),
            *(conv(second, third), conv(third, third), conv(third, third)),
            nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            *(dilated(third, fourth), dilated(fourth, fourth), dilated(fourth, fourth)),
        )
        self.describe = nn.Sequential(nn.Conv2d(fourth, dim, 1), nn.BatchNorm2d(dim, affine=False))
        self.sharpness = nn.Parameter(torch.tensor(4.0))

    def dense(self, image: Tensor) -> Dense:
        features = self.features(standardize(image).contiguous(memory_format=torch.channels_last))
        descriptors = self.describe(features)
        scores = self.sharpness * relative(soft_detection(descriptors))
        return Dense((descriptors,), F.interpolate(scores, scale_factor=4, mode="bicubic", align_corners=False))

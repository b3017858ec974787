"""`s`: a small fast network for CPUs; nothing wide above quarter resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tpr.networks.base import Dense, Network, halved, padded, standardize, upsample
from tpr.networks.corners import CornerLogits


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    padding = (kernel - stride + 1) // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def projection(inputs: int, outputs: int) -> nn.Sequential:
    """Linear, then each number to zero mean and unit variance: what a loss on standardized channels leaves open."""
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, affine=False))


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input passes."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)).add_(x).relu_()


class Small(Network):
    """A U-shaped network of residual blocks from half to sixteenth resolution, descriptors at a quarter.

    The same weights are applied to the image at half its size, a quarter ... as well (an image pyramid), and the
    features of all sizes are concatenated: descriptors see the surroundings of a point as well as its detail. A linear
    projection of them, applied at the keypoints only, keeps descriptors short and learns how much each size counts. Of
    several octaves each size is computed once.

    Detection: the log corner response of the full-resolution image says where exactly, a smooth map of logits learned
    at quarter resolution how reliable the point is.

    Args:
        dim: descriptor dimension.
        per_size: channels read from each size of the image, all of them projected to `dim`; None: `dim` is shared out
            among the sizes, and nothing is projected.
        counts: how much the descriptors of the image, of its half, of its quarter ... count; at least two.
        widths: channels at 1/2, 1/4, 1/8 and 1/16 resolution.
        detail: also correct the corner response pixel by pixel, with logits learned at half resolution.
    """

    stride = 4
    multiple = 16
    supports_bfloat16 = True

    def __init__(
        self,
        dim: int = 128,
        widths: tuple[int, int, int, int] = (16, 32, 64, 64),
        detail: bool = False,
        counts: Sequence[float] = (1.0, 1.0),
        per_size: int | None = None,
    ):
        super().__init__()
        if len(counts) < 2 or (per_size is None and dim % len(counts)):
            raise ValueError(f"{len(counts)} sizes of the image can't share {dim} dimensions")
        self.dim, self.counts = dim, tuple(counts)
        half, quarter, eighth, sixteenth = widths
        self.at_half = nn.Sequential(conv(1, half, 4, 2), conv(half, half))
        self.at_quarter = nn.Sequential(conv(half, quarter, 2, 2), Residual(quarter))
        self.at_eighth = nn.Sequential(conv(quarter, eighth, 2, 2), Residual(eighth))
        self.at_sixteenth = nn.Sequential(conv(eighth, sixteenth, 2, 2), Residual(sixteenth), Residual(sixteenth))
        self.from_sixteenth = nn.Conv2d(sixteenth, eighth, 1)
        self.merge_eighth = conv(eighth, eighth)
        self.from_eighth = nn.Conv2d(eighth, eighth, 1)
        self.from_quarter = nn.Conv2d(quarter, eighth, 1)
        self.merge_quarter = nn.Sequential(conv(eighth, eighth, groups=eighth), conv(eighth, eighth, 1))
        own = per_size or dim // len(counts)
        self.describe = nn.Sequential(nn.Conv2d(eighth, own, 1), nn.BatchNorm2d(own, affine=False))
        if per_size is not None:
            self.projection = projection(own * len(counts), dim)
        self.reliability_head = nn.Conv2d(eighth, 1, 1)
        self.detail = nn.Conv2d(half, 4, 3, 1, 1) if detail else None
        self.corners = CornerLogits()
        for head in filter(None, (self.reliability_head, self.detail)):
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

    def dense(self, image: Tensor) -> Dense:
        return self.dense_octaves(image, 1)[0]

    def dense_octaves(self, image: Tensor, count: int) -> list[Dense]:
        images = [standardize(image)]
        sizes = len(self.counts)
        for _ in range(count + sizes - 2):
            images.append(halved(images[-1]))
        halves, quarters = zip(*(self.trunk(image) for image in images), strict=True)
        described = [self.describe(quarter) for quarter in quarters]
        reliable = [self.reliability_head(quarter).float() for quarter in quarters]
        found = []
        for k in range(count):
            reliability = reliable[k] + cropped(upsample(reliable[k + 1], 2), reliable[k])
            logits = self.corners(images[k]) + cropped(upsample(reliability, 4), images[k])
            if self.detail is not None:
                logits = logits + cropped(F.pixel_shuffle(self.detail(halves[k]), 2), images[k])
            found.append(Dense(self.counted(described[k : k + sizes]), logits, reliability))
        return found

    def descriptors(self, image: Tensor) -> tuple[Tensor, ...]:
        images = [standardize(padded(image, self.multiple))]
        for _ in self.counts[1:]:
            images.append(halved(images[-1]))
        quarters = [self.trunk(image)[1] for image in images]
        return self.counted([self.describe(quarter) for quarter in quarters])

    def counted(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What is read from each size of the image, times how much it counts."""
        return tuple(x if count == 1 else count * x for count, x in zip(self.counts, levels, strict=True))

    @torch.no_grad()
    def fold(self) -> None:
        """For inference: make one linear map of all that follows the trunk, applied at the points that are read."""
        if self.projection is None:
            return
        own, (linear, norm) = fuse_conv_bn_eval(*self.describe), self.projection
        assert isinstance(norm, nn.BatchNorm1d) and isinstance(linear, nn.Linear)
        assert norm.running_mean is not None and norm.running_var is not None and own.bias is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        parts = torch.stack(self.counted((scale[:, None] * linear.weight).chunk(len(self.counts), 1)))
        whole = nn.Linear(len(parts) * own.in_channels, self.dim)
        whole.weight.copy_(torch.cat([*(parts @ own.weight[:, :, 0, 0])], 1))
        whole.bias.copy_(parts.sum(0) @ own.bias - scale * norm.running_mean)
        self.projection, self.describe, self.counts = nn.Sequential(whole), nn.Sequential(), (1.0,) * len(parts)

    def trunk(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a standardized image at half and at quarter resolution; the latter merge all coarser ones.

        They cover at least the image."""
        image = padded(image, self.multiple)
        image = image.to(self.reliability_head.weight.dtype).contiguous(memory_format=torch.channels_last)
        half = self.at_half(image)
        quarter = self.at_quarter(half)
        eighth = self.at_eighth(quarter)
        sixteenth = self.at_sixteenth(eighth)
        eighth = self.merge_eighth(upsample(self.from_sixteenth(sixteenth), 2).add_(eighth))
        quarter = upsample(self.from_eighth(eighth), 2).add_(self.from_quarter(quarter)).relu_()
        return half, self.merge_quarter(quarter)


def cropped(values: Tensor, like: Tensor) -> Tensor:
    """The top left of [B, C, H, W], as large as another."""
    return values[..., : like.shape[-2], : like.shape[-1]]

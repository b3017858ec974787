"""The contract of a network: an image in, dense descriptors and a score map out."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from tpr.geometry import sample


class Dense(NamedTuple):
    """What a network says of a batch of images.

    Attributes:
        descriptors: [B, D, H / stride, W / stride], not normalised; cell (i, j) is centred on the pixel
            (stride · (j + ½) − ½, stride · (i + ½) − ½).
        logits: [B, 1, H, W], detection scores before the sigmoid, one a pixel.
        reliability: [B, 1, H / stride, W / stride], the part of the logits that says how well a place can be matched,
            before the sigmoid; None for a network whose logits have no such part.
    """

    descriptors: Tensor
    logits: Tensor
    reliability: Tensor | None = None


class Network(nn.Module):
    """Base of all backbones. A subclass sets `dim` and `stride` and implements `dense`.

    Attributes:
        dim: descriptor dimension D.
        stride: pixels from one descriptor to the next.
        multiple: image sides are padded up to a multiple of it.
    """

    dim: int
    stride: int
    multiple: int

    def dense(self, image: Tensor) -> Dense:
        """As `forward`, for sides that are multiples of `multiple`."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Dense:
        """Describe grey images.

        Args:
            image: [B, 1, H, W], intensities in [0, 1].

        Returns:
            Descriptors that cover at least the image, and logits of exactly its size.
        """
        height, width = image.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        if any(pad):
            image = F.pad(image, pad, mode="replicate")
        out = self.dense(image)
        return Dense(out.descriptors, out.logits[..., :height, :width], out.reliability)


def sample_descriptors(descriptors: Tensor, points: Tensor, stride: int) -> Tensor:
    """Read dense descriptors at sub-pixel points, bilinearly.

    Args:
        descriptors: [B, D, h, w].
        points: [B, N, 2] xy in pixels, the centre of the top-left pixel at (0, 0).
        stride: pixels from one cell to the next.

    Returns:
        [B, N, D], not normalised.
    """
    return sample(descriptors, points, stride)


def standardize(image: Tensor, eps: float = 1e-3) -> Tensor:
    """Zero mean and unit variance over each image [B, C, H, W]: blind to gain and offset."""
    mean = image.mean((1, 2, 3), keepdim=True)
    return (image - mean) / (image.var((1, 2, 3), keepdim=True, correction=0) + eps**2).sqrt()


def parameters_of(network: nn.Module) -> int:
    """How many parameters a network has."""
    return sum(p.numel() for p in network.parameters())


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear enlargement that keeps cell centres where they are."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

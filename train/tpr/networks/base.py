"""The contract of a network: an image in, dense descriptors and a score map out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tpr.geometry import sample_rows


class Dense(NamedTuple):
    """A network's output for a batch of images.

    Attributes:
        descriptors: maps [B, D_k, H / s, W / s] with s = stride · 2^k, not normalised; cell (i, j) is centred on the
            pixel (s · (j + ½) − ½, s · (i + ½) − ½). `Network.descriptors_at` reads descriptors of points from them.
        logits: [B, 1, H, W], detection scores before the sigmoid, one a pixel.
        reliability: [B, 1, H / stride, W / stride], the part of the logits that says how well a place can be matched,
            before the sigmoid; None for a network whose logits have no such part.
    """

    descriptors: tuple[Tensor, ...]
    logits: Tensor
    reliability: Tensor | None = None


class Network(nn.Module):
    """Base of all backbones. A subclass sets `dim` and `stride` and implements `dense`.

    Attributes:
        dim: descriptor dimension D.
        stride: pixels from one descriptor of the first map to the next.
        multiple: image sides are padded up to a multiple of it.
        projection: from the maps' values at a point, [M, Σ_k D_k], to its descriptor [M, D]; None: the identity.
        supports_bfloat16: `to(torch.bfloat16)` leaves it as good at inference; images and scores stay float32.
    """

    dim: int
    stride: int
    multiple: int
    supports_bfloat16 = False

    def __init__(self) -> None:
        super().__init__()
        self.projection: nn.Sequential | None = None

    def dense(self, image: Tensor) -> Dense:
        """As `forward`, for sides that are multiples of `multiple`."""
        raise NotImplementedError

    def dense_octaves(self, image: Tensor, count: int) -> list[Dense]:
        """As `octaves`, for sides that are multiples of `multiple`."""
        return [self.dense(image)] + (self.octaves(halved(image), count - 1) if count > 1 else [])

    def forward(self, image: Tensor) -> Dense:
        """Describe grey images.

        Args:
            image: [B, 1, H, W], intensities in [0, 1].

        Returns:
            Descriptors that cover at least the image, and logits of exactly its size.
        """
        return self.octaves(image, 1)[0]

    def descriptors(self, image: Tensor) -> tuple[Tensor, ...]:
        """The descriptors that `forward` gives of images [B, 1, H, W], where no logits are asked for."""
        return self(image).descriptors

    def descriptors_at(self, descriptors: tuple[Tensor, ...], points: Tensor) -> Tensor:
        """Descriptors of sub-pixel points.

        Args:
            descriptors: the maps of a batch of images, as in `Dense`.
            points: [B, N, 2] xy in pixels, the centre of the top-left pixel at (0, 0).

        Returns:
            float32 [B, N, D], not normalised.
        """
        return self.project(sample_descriptors(descriptors, points, self.stride))

    def project(self, sampled: Tensor) -> Tensor:
        """The maps' values at points, concatenated [B, N, Σ_k D_k], to descriptors: float32 [B, N, D]."""
        if self.projection is None:
            return sampled
        flat = sampled.flatten(0, 1).to(next(self.projection.parameters()).dtype)
        return self.projection(flat).float().unflatten(0, sampled.shape[:2])

    def fold(self) -> None:
        """Give the same descriptors by fewer operations, at inference alone."""

    def octaves(self, image: Tensor, count: int) -> list[Dense]:
        """Describe grey images [B, 1, H, W] at full size, at half, ...: `count` sizes.

        Returns:
            As `forward`, in pixels of the k-th size: x there is 2^k (x + ½) − ½ in the image.
        """
        height, width = image.shape[-2:]
        found = self.dense_octaves(padded(image, self.multiple), count)
        for k, dense in enumerate(found):
            found[k] = dense._replace(logits=dense.logits[..., :height, :width])
            height, width = (height + 1) // 2, (width + 1) // 2
        return found


def sample_descriptors(descriptors: tuple[Tensor, ...], points: Tensor, stride: int) -> Tensor:
    """Read dense descriptors at sub-pixel points, bilinearly.

    Args:
        descriptors: maps [B, D_k, h, w], as in `Dense`.
        points: [B, N, 2] xy in pixels, the centre of the top-left pixel at (0, 0).
        stride: pixels from one cell of the first map to the next.

    Returns:
        [B, N, D], not normalised.
    """
    return torch.cat([sample_rows(level, points, stride << k) for k, level in enumerate(descriptors)], -1)


def padded(image: Tensor, multiple: int) -> Tensor:
    """An image [B, C, H, W] whose last row and column are repeated until its sides are multiples of a number."""
    height, width = image.shape[-2:]
    pad = (0, -width % multiple, 0, -height % multiple)
    return F.pad(image, pad, mode="replicate") if any(pad) else image


def halved(image: Tensor) -> Tensor:
    """An image [B, C, H, W] at half its size, a last odd row or column included."""
    return F.avg_pool2d(image, 2, ceil_mode=True)


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

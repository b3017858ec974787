"""Photometric augmentation: light, weather, lens and sensor.

Batched; images [B, 1, H, W] in [0, 1], amounts [B, 1, 1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from tpr.jpeg import jpeg
from tpr.randomness import generator_on, smooth_field


@dataclass
class Light:
    """Ranges of the photometric change at full strength.

    Attributes:
        exposure: largest change of exposure, stops.
        gamma: largest exponent (and its inverse).
        noise: largest standard deviation of the sensor noise.
        blur: largest σ of the Gaussian blur, pixels.
        shadow: deepest shadow, as a share of the light taken away; half of the views have one.
        colour: standard deviation of the change of the weights that mix red, green and blue; some may fall below 0.
        local_exposure, local_gamma: as `exposure` and `gamma`, but different from place to place.
        night, fog, jpeg: the share of views that are taken at night, lie in fog, went through JPEG.
    """

    exposure: float = 1.0
    gamma: float = 1.6
    noise: float = 0.04
    blur: float = 1.5
    shadow: float = 0.7
    colour: float = 0.0
    local_exposure: float = 0.0
    local_gamma: float = 1.0
    night: float = 0.15
    fog: float = 0.15
    jpeg: float = 0.3


def channel_weights(batch: int, light: Light, strength: float, generator: torch.Generator) -> Tensor:
    """Weights [B, 3], 1 in sum, that mix red, green and blue into grey, off the usual ones: a change of colour."""
    usual = torch.tensor([0.299, 0.587, 0.114])
    weights = torch.rand(batch, 3, generator=generator)
    mixed = (1 - strength / 2) * usual + strength / 2 * weights / weights.sum(1, keepdim=True)
    change = torch.randn(batch, 3, generator=generator)
    return mixed + light.colour * strength * (change - change.mean(1, keepdim=True))


def cast_shadow(images: Tensor, depth: Tensor, generator: torch.Generator) -> Tensor:
    """Darken a random region by a share `depth`, its edge soft to hard."""
    batch, _, height, width = images.shape
    field = smooth_field(batch, 4, height, width, generator, images.device)
    threshold, hardness = torch.rand(2, batch, 1, 1, 1, generator=generator).to(images.device)
    shade = torch.sigmoid((field - 0.3 - 0.4 * threshold) * (2 + 60 * hardness**2))
    return images * (1 - depth * shade)


def fall_night(images: Tensor, darkness: Tensor, generator: torch.Generator) -> Tensor:
    """Night: pools of artificial light, the rest `darkness` stops below them, and the camera's gain.

    The gain brings the mean back to what a camera exposes for, so the pools saturate and the noise of the few photons
    is strong: its variance is that of the light, scaled by the gain.
    """
    batch, _, height, width = images.shape
    field = smooth_field(batch, 6, height, width, generator, images.device)
    lit = images**1.5 * 2.0 ** (-darkness * (1 - field**2))
    aim = 0.12 + 0.2 * torch.rand(batch, 1, 1, 1, generator=generator).to(images.device)
    gain = aim / lit.mean((1, 2, 3), keepdim=True).clamp_min(1e-3)
    photons = 4000 / gain.clamp_min(1)
    lit = lit * gain
    grain = torch.randn(images.shape, generator=generator_on(generator, images.device), device=images.device)
    return lit + grain * (lit.clamp_min(0) / photons + (4 / photons) ** 2).sqrt()


def raise_fog(images: Tensor, density: Tensor, generator: torch.Generator) -> Tensor:
    """I t + A (1 − t), t = exp(−density · distance), over a smooth random distance; A is the air's brightness."""
    batch, _, height, width = images.shape
    distance = smooth_field(batch, 3, height, width, generator, images.device)
    air = 0.5 + 0.5 * torch.rand(batch, 1, 1, 1, generator=generator).to(images.device)
    seen = torch.exp(-density * (0.2 + distance))
    return images * seen + air * (1 - seen)


def relight(images: Tensor, light: Light, strength: float, generator: torch.Generator) -> Tensor:
    """Change each image by its own random amounts: shadow, night, fog, exposure, gamma, focus, noise, JPEG."""
    batch, device = len(images), images.device

    def amount(count: int = batch) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator)

    def some(share: float) -> Tensor:
        return (torch.rand(batch, generator=generator) < share * strength).nonzero()[:, 0]

    images = images.clamp(0, 1)
    for share, effect, least, most in (
        (0.5, cast_shadow, 0.2 * light.shadow, light.shadow),
        (light.night, fall_night, 2.0, 2.0 + 3.0 * strength),
        (light.fog, raise_fog, 0.3, 0.3 + 1.5 * strength),
    ):
        chosen = some(share)
        if len(chosen):
            amounts = (least + (most - least) * amount(len(chosen))).to(device)
            images[chosen.to(device)] = effect(images[chosen.to(device)], amounts, generator)
    stops = light.exposure * strength * (2 * amount() - 1)
    exponent = light.gamma ** (strength * (2 * amount() - 1))
    stops, exponent = stops.to(device), exponent.to(device)
    if light.local_exposure or light.local_gamma != 1:
        fields = 2 * smooth_field(2 * batch, 5, images.shape[-2], images.shape[-1], generator, device) - 1
        stops = stops + light.local_exposure * strength * fields[:batch]
        exponent = exponent * light.local_gamma ** (strength * fields[batch:])
    images = (images.clamp_min(1e-4) * 2.0**stops).clamp(1e-4, 1) ** exponent
    sigma = (light.blur * strength * amount() ** 2).reshape(batch, 1).clamp_min(0.05).to(device)
    images = gaussian_blur2d(images, (9, 9), sigma.expand(batch, 2))
    deviation = (light.noise * strength * amount() ** 2).to(device)
    grain = torch.randn(images.shape, generator=generator_on(generator, device), device=device)
    images = (images + deviation * grain * (0.3 + images.sqrt())).clamp(0, 1)
    chosen = some(light.jpeg)
    if len(chosen):
        quality = 90 - 70 * strength * torch.rand(len(chosen), generator=generator)
        images[chosen.to(device)] = jpeg(images[chosen.to(device)], quality)
    return (images * 255).round() / 255

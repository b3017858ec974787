"""Pairs of views of a photo with exact dense correspondences."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from tpr.geometry import Warp, apply_homography, crop_to_photo, pixel_grid
from tpr.photometric import Light, grey, relight
from tpr.photos import Photos


@dataclass
class ViewPair:
    """Two views of the same scenes.

    Attributes:
        first, second: [B, 1, H, W] in [0, 1].
        forward: [B, 3, 3] homographies from the first view's pixels to the second's.
    """

    first: Tensor
    second: Tensor
    forward: Tensor

    def match(self, points: Tensor, margin: float = 2.0) -> tuple[Tensor, Tensor]:
        """Where points [B, N, 2] of the first view lie in the second, and whether inside it ([B, N] bool)."""
        there = apply_homography(self.forward, points)
        height, width = self.second.shape[-2:]
        limit = there.new_tensor([width - 1 - margin, height - 1 - margin])
        return there, ((there >= margin) & (there <= limit)).all(-1)

    def swapped(self) -> ViewPair:
        """The same pair seen from the second view."""
        return ViewPair(self.second, self.first, torch.linalg.inv(self.forward))


@dataclass
class Views:
    """Makes pairs of views: a random warp and a random light for each, both scaled by one strength."""

    size: int = 128
    warp: Warp = field(default_factory=Warp)
    light: Light = field(default_factory=Light)

    def draw(self, photos: Photos, batch: int, strength: float, generator: torch.Generator) -> ViewPair:
        """A batch of pairs from photos drawn at random.

        Args:
            photos: where from.
            batch: number of pairs.
            strength: 0 (two equal views) to 1 (the full ranges of `warp` and `light`).
            generator: the only source of randomness (CPU).
        """
        interest = torch.stack([texture.mean() for texture in photos.texture])
        chosen = torch.multinomial(interest, batch, replacement=True, generator=generator).tolist()
        sizes = torch.tensor([photos.levels[i][0].shape[:0:-1] for i in chosen], dtype=torch.float32)
        centres = torch.stack([draw_centre(photos.texture[i], generator) for i in chosen]) * sizes
        maps = crop_to_photo(self.warp, strength, self.size, sizes, centres, generator)
        mirrored = torch.rand(batch, generator=generator) < 0.5
        images = []
        for to_photo in maps:
            crops = self.cut(photos, chosen, to_photo)
            crops = torch.where(mirrored.to(crops.device)[:, None, None, None], crops.flip(-1), crops)
            images.append(relight(grey(crops, strength, generator), self.light, strength, generator))
        mirror = torch.diag_embed(torch.tensor([-1.0, 1, 1])).repeat(batch, 1, 1)
        mirror[:, 0, 2] = self.size - 1
        mirror = torch.where(mirrored[:, None, None], mirror, torch.eye(3))
        forward = mirror @ torch.linalg.inv(maps[1].double()).float() @ maps[0] @ mirror
        return ViewPair(images[0], images[1], forward.to(images[0].device))

    def cut(self, photos: Photos, chosen: list[int], to_photo: Tensor) -> Tensor:
        """Crops [B, 3, size, size] in [0, 1], each from the pyramid level that fits its scale."""
        grid = pixel_grid(self.size, self.size)
        where = apply_homography(to_photo, grid.expand(len(chosen), -1, -1))
        side = (where[:, self.size - 1] - where[:, 0]).norm(dim=-1) / self.size
        levels = side.clamp_min(1).log2().round().clamp(0, 2).int().tolist()
        crops = []
        for i, level, points in zip(chosen, levels, where, strict=True):
            photo = photos.levels[i][level]
            size = torch.tensor(photo.shape[:0:-1]) * 2.0**level
            coordinates = ((2 * points + 1) / size - 1).to(photo.device)
            coordinates = coordinates.reshape(1, self.size, self.size, 2)
            crops.append(sample_uint8(photo, coordinates))
        return torch.cat(crops) / 255


def draw_centre(texture: Tensor, generator: torch.Generator) -> Tensor:
    """A random place (xy in [0, 1], shape [2]), likelier where a texture map [h, w] is high."""
    cell = int(torch.multinomial(texture.flatten(), 1, generator=generator))
    height, width = texture.shape
    corner = torch.tensor([cell % width, cell // width], dtype=torch.float32)
    return (corner + torch.rand(2, generator=generator)) / torch.tensor([width, height])


def sample_uint8(photo: Tensor, coordinates: Tensor) -> Tensor:
    """grid_sample of uint8 [3, H, W] at [1, h, w, 2] in [-1, 1], touching only the part that is asked for."""
    height, width = photo.shape[-2:]
    size = coordinates.new_tensor([width, height])
    pixels = ((coordinates + 1) * size - 1) / 2
    low = pixels.amin((0, 1, 2)).floor().clamp_min(0).minimum(size - 2).int().tolist()
    high = (pixels.amax((0, 1, 2)).ceil() + 1).minimum(size).int().tolist()
    high = [max(h, a + 2) for h, a in zip(high, low, strict=True)]
    part = photo[None, :, low[1] : high[1], low[0] : high[0]].float()
    part_size = size.new_tensor([part.shape[-1], part.shape[-2]])
    local = (2 * (pixels - size.new_tensor(low)) + 1) / part_size - 1
    return F.grid_sample(part, local, mode="bilinear", padding_mode="reflection", align_corners=False)

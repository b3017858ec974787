"""Pairs of views of a photo, or of one place at two hours, with exact dense correspondences."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tpr.crops import cut
from tpr.geometry import apply_homography, inverse, pixel_grid
from tpr.pairs import ViewPair
from tpr.photometric import Light, channel_weights, relight
from tpr.photos import Photos
from tpr.relief import Relief
from tpr.warps import Warp, draw_sides, draw_view, uniform

__all__ = ["ViewPair", "Views"]


@dataclass
class Views:
    """Makes pairs of views: a random warp and a random light for each, both scaled by one strength.

    Attributes:
        size: side of the square views, pixels.
        warp, light: what happens to them at full strength.
        same_camera_fraction: the share of pairs whose views come from two photos of one fixed camera, where `photos`
            has such.
        landmark_fraction: the share of each batch that is of two photos with landmarks in common, where a map tells
            them; see `tpr.landmarks`.
    """

    size: int = 128
    warp: Warp = field(default_factory=Warp)
    light: Light = field(default_factory=Light)
    same_camera_fraction: float = 0.1
    landmark_fraction: float = 0.5

    def draw(self, photos: Photos, batch: int, strength: float, generator: torch.Generator) -> ViewPair:
        """A batch of pairs from photos drawn at random.

        Args:
            photos: where from.
            batch: number of pairs.
            strength: 0 (two equal views, but for the hour) to 1 (the full ranges of `warp` and `light`).
            generator: the only source of randomness (CPU).
        """
        chosen, partners = self.choose(photos, batch, generator)
        sizes = torch.tensor([photos.levels[i][0].shape[:0:-1] for i in chosen], dtype=torch.float32)
        sides = draw_sides(self.warp, self.size, sizes, generator)
        centres = torch.stack([draw_centre(photos.texture[i], generator) for i in chosen]) * sizes
        half = sides[:, None] / 2
        centres = centres.maximum(half).minimum((sizes - half).maximum(half))
        mirrored = torch.rand(batch, generator=generator) < 0.5
        ratio = self.warp.zoom ** (uniform(batch, generator=generator) * strength / 2)
        views = [
            draw_view(self.warp, strength, self.size, centres, sides * zoom, mirrored, generator)
            for zoom in (ratio, 1 / ratio)
        ]
        shift = uniform(batch, 2, generator=generator) * sides[:, None] * self.warp.relief * strength
        device = photos.device
        relief = Relief(shift.to(device), centres.to(device), sides.to(device), generator)

        grid = pixel_grid(self.size, self.size, device).expand(batch, -1, -1)
        first = apply_homography(views[0].to(device), grid)
        second = relief.to_photo(apply_homography(views[1].to(device), grid))
        weights = channel_weights(2 * batch, self.light, strength, generator)
        reach = shift.norm(dim=1)
        images = torch.cat(
            [
                cut(photos, chosen, views[0], first, 0 * reach, weights[:batch], self.size),
                cut(photos, partners, views[1], second, reach, weights[batch:], self.size),
            ]
        )
        images = relight(images, self.light, strength, generator)
        forward = apply_homography(inverse(views[1]).to(device), relief.from_photo(first))
        backward = apply_homography(inverse(views[0]).to(device), second)
        seen, partner = images.split(batch)
        return ViewPair(seen, partner, self.as_map(forward), self.as_map(backward))

    def choose(self, photos: Photos, batch: int, generator: torch.Generator) -> tuple[list[int], list[int]]:
        """The photos of the first and of the second views; a photo is likelier the more there is to see in it."""
        chosen = torch.multinomial(photos.interest, batch, replacement=True, generator=generator).tolist()
        partners = list(chosen)
        if photos.cameras:
            for b in (torch.rand(batch, generator=generator) < self.same_camera_fraction).nonzero()[:, 0].tolist():
                group = photos.cameras[int(torch.randint(len(photos.cameras), (1,), generator=generator))]
                one, other = torch.randperm(len(group), generator=generator)[:2].tolist()
                chosen[b], partners[b] = group[one], group[other]
        return chosen, partners

    def as_map(self, points: Tensor) -> Tensor:
        """Points [B, size², 2] as a map [B, 2, size, size]."""
        return points.transpose(1, 2).reshape(len(points), 2, self.size, self.size)


def draw_centre(texture: Tensor, generator: torch.Generator) -> Tensor:
    """A random place (xy in [0, 1], shape [2]), likelier where a texture map [h, w] is high."""
    cell = int(torch.multinomial(texture.flatten(), 1, generator=generator))
    height, width = texture.shape
    corner = torch.tensor([cell % width, cell // width], dtype=torch.float32)
    return (corner + torch.rand(2, generator=generator)) / torch.tensor([width, height])

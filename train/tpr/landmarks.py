"""Pairs of views from two photos whose matching points are known, as those of a map's landmarks are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tpr.crops import cut
from tpr.geometry import apply_homography, draw_sides, draw_view, inverse, pixel_grid, uniform
from tpr.pairs import LandmarkPair, inside
from tpr.photometric import channel_weights, relight
from tpr.photos import Photos
from tpr.views import Views


@dataclass
class Matched:
    """Two photos and where the same landmarks lie in them.

    Attributes:
        first, second: places of the photos in `Photos`.
        points, partners: float32 [N, 2] xy, in pixels of the photos as `Photos` keeps them (see its `scales`).
    """

    first: int
    second: int
    points: Tensor
    partners: Tensor


class LandmarkViews:
    """Makes pairs of views around landmarks, each with its own random warp (without relief) and light.

    Args:
        views: size, warp and light.
        matched: the pairs of photos to draw from; each with at least one landmark.
        points: at most so many landmarks a pair of views.
    """

    def __init__(self, views: Views, matched: list[Matched], points: int = 64):
        self.views, self.matched, self.points = views, matched, points

    def draw(self, photos: Photos, batch: int, strength: float, generator: torch.Generator) -> LandmarkPair:
        """A batch of pairs; arguments as in `Views.draw`."""
        chosen = [self.matched[i] for i in torch.randint(len(self.matched), (batch,), generator=generator).tolist()]
        seeds = [int(torch.randint(len(m.points), (1,), generator=generator)) for m in chosen]
        size, warp = self.views.size, self.views.warp
        mirrored = torch.rand(batch, generator=generator) < 0.5
        ratio = warp.zoom ** (uniform(batch, generator=generator) * strength / 2)
        ends = (
            ([m.first for m in chosen], [m.points for m in chosen], ratio),
            ([m.second for m in chosen], [m.partners for m in chosen], 1 / ratio),
        )
        smaller = torch.stack([self.sizes(photos, which) for which, _, _ in ends]).amin(0)
        sides = draw_sides(warp, size, smaller, generator)
        images, places = [], []
        for which, points, zoom in ends:
            centres = torch.stack([p[seed] for p, seed in zip(points, seeds, strict=True)])
            view = draw_view(warp, strength, size, centres, sides * zoom, mirrored, generator)
            where = apply_homography(view, pixel_grid(size, size).expand(batch, -1, -1)).to(photos.device)
            weights = channel_weights(batch, self.views.light, strength, generator)
            images.append(cut(photos, which, view, where, torch.zeros(batch), weights, size))
            back = inverse(view)
            places.append([apply_homography(back[b : b + 1], p[None])[0] for b, p in enumerate(points)])
        lit = relight(torch.cat(images), self.views.light, strength, generator)
        found = torch.zeros(2, batch, self.points, 2)
        valid = torch.zeros(batch, self.points, dtype=torch.bool)
        for b, (here, there) in enumerate(zip(*places, strict=True)):
            seen = (inside(here, size, size, 4) & inside(there, size, size, 4)).nonzero()[:, 0]
            seen = seen[torch.randperm(len(seen), generator=generator)[: self.points]]
            found[0, b, : len(seen)], found[1, b, : len(seen)] = here[seen], there[seen]
            valid[b, : len(seen)] = True
        found = found.to(photos.device)
        first, second = lit.split(batch)
        return LandmarkPair(first, second, found[0], found[1], valid.to(photos.device))

    @staticmethod
    def sizes(photos: Photos, which: list[int]) -> Tensor:
        """Width and height of photos: [B, 2]."""
        return torch.tensor([photos.levels[i][0].shape[:0:-1] for i in which], dtype=torch.float32)

"""Parallax: a smooth random relief that the second view sees from the side."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tpr.randomness import smooth_field

KNOTS, RESOLUTION = 5, 33


class Relief:
    """Shifts each scene point along one direction by as much as it stands out.

    A point at p in the photo lies at q in the plane of the view from the side, where p = q + s h(q): s is the shift
    of the highest points, h in [-1, 1] the smooth height. Since |s| |∇h| < 1, the map is one to one: no point hides
    another.

    Args:
        shift: s, [B, 2] photo pixels.
        centres: [B, 2] xy, the middle of the relief in the photo.
        sides: [B] half of the relief's extent, photo pixels; beyond it the height stays that of its border.
        generator: the source of randomness (CPU).
    """

    def __init__(self, shift: Tensor, centres: Tensor, sides: Tensor, generator: torch.Generator):
        field = smooth_field(len(shift), KNOTS, RESOLUTION, RESOLUTION, generator, shift.device)
        self.heights = 2 * field - 1
        self.shift, self.centres, self.sides = shift[:, None], centres[:, None], sides[:, None, None]

    def height(self, relative: Tensor) -> Tensor:
        """h at points [B, N, 2] relative to the relief's extent, [-1, 1]: [B, N, 1]."""
        found = F.grid_sample(self.heights, relative[:, None], align_corners=True, padding_mode="border")
        return found[:, 0].transpose(1, 2)

    def to_photo(self, points: Tensor) -> Tensor:
        """p = q + s h(q) of points [B, N, 2]."""
        return points + self.shift * self.height((points - self.centres) / self.sides)

    def from_photo(self, points: Tensor, iterations: int = 6) -> Tensor:
        """The q of p, by the fixed-point iteration q ← p − s h(q)."""
        start, shift = (points - self.centres) / self.sides, self.shift / self.sides
        relative = start
        for _ in range(iterations):
            relative = torch.addcmul(start, shift, self.height(relative), value=-1)
        return relative * self.sides + self.centres

"""Two views of the same scenes, and which points of them belong together.

What a loss may ask of a pair: `first`, `second`, `correspondences` (points to learn descriptors at), `match` (where
any point lies in the other view) and `warp` (the other view's map seen from this one).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tpr.geometry import pixel_grid, sample
from tpr.keypoints import local_maxima
from tpr.randomness import generator_on


def inside(points: Tensor, height: int, width: int, margin: float) -> Tensor:
    """Which of points [..., 2] lie in an image, at least `margin` from its border: bool [...]."""
    x, y = points.unbind(-1)
    return (x >= margin) & (y >= margin) & (x <= width - 1 - margin) & (y <= height - 1 - margin)


@dataclass
class ViewPair:
    """Views with dense correspondences.

    Attributes:
        first, second: [B, 1, H, W] in [0, 1].
        forward: [B, 2, H, W], where in the second view (xy) lies what each pixel of the first shows.
        backward: [B, 2, H, W], the same from the second view to the first.
    """

    first: Tensor
    second: Tensor
    forward: Tensor
    backward: Tensor

    def match(self, points: Tensor, margin: float = 2.0) -> tuple[Tensor, Tensor]:
        """Where points [B, N, 2] of the first view lie in the second, and whether `margin` inside it ([B, N] bool)."""
        height, width = self.first.shape[-2:]
        there = sample(self.forward, points)
        return there, inside(there, height, width, margin) & inside(points, height, width, 0)

    def warp(self, values: Tensor, margin: float = 2.0) -> tuple[Tensor, Tensor]:
        """Bring a map [B, C, H, W] of the second view into the first's pixels; where it is valid: [B, 1, H, W] bool."""
        batch, channels, height, width = values.shape
        there = self.forward.flatten(2).transpose(1, 2)
        warped = sample(values, there).transpose(1, 2).reshape(batch, channels, height, width)
        return warped, inside(there, height, width, margin).reshape(batch, 1, height, width)

    def correspondences(self, logits: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Points to learn at: in the first view [B, count, 2], in the second, and which are valid [B, count].

        Half lie at the maxima of the first view's score map [B, 1, H, W], likelier where it is high, half anywhere.
        """
        points = draw_points(logits, count, generator)
        return points, *self.match(points, margin=4)

    def swapped(self) -> ViewPair:
        """The same pair seen from the second view."""
        return ViewPair(self.second, self.first, self.backward, self.forward)

    def part(self, start: int, stop: int) -> ViewPair:
        """Some of the pairs."""
        return ViewPair(*(x[start:stop] for x in (self.first, self.second, self.forward, self.backward)))


@dataclass
class LandmarkPair:
    """Photos of a map, that belong together at its landmarks and are not known to elsewhere.

    Attributes:
        first, second: [B, 1, H, W] in [0, 1].
        points, partners: [B, N, 2] xy in the first and the second view.
        valid: [B, N] bool, which of them are landmarks and not padding.
    """

    first: Tensor
    second: Tensor
    points: Tensor
    partners: Tensor
    valid: Tensor

    def match(self, points: Tensor, margin: float = 2.0) -> tuple[Tensor, Tensor]:
        """Nothing is known of other points: none is valid."""
        return points, torch.zeros_like(points[..., 0], dtype=torch.bool)

    def warp(self, values: Tensor, margin: float = 2.0) -> tuple[Tensor, Tensor]:
        """Nothing is known of whole maps: no pixel is valid."""
        return values, torch.zeros_like(values[:, :1], dtype=torch.bool)

    def correspondences(self, logits: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The first `count` landmarks."""
        return self.points[:, :count], self.partners[:, :count], self.valid[:, :count]


class MixedPair:
    """Pairs of several kinds in one batch, which share its statistics: those of a few landmarks alone are noise.

    Args:
        parts: the pairs, in their order in the batch; views of one size, landmarks padded to one number.
    """

    def __init__(self, *parts: ViewPair | LandmarkPair):
        self.parts = parts
        self.first = torch.cat([part.first for part in parts])
        self.second = torch.cat([part.second for part in parts])

    def match(self, points: Tensor, margin: float = 2.0) -> tuple[Tensor, Tensor]:
        """As each part says."""
        return self.joined([part.match(one, margin) for part, one in self.each(points)])

    def warp(self, values: Tensor, margin: float = 2.0) -> tuple[Tensor, Tensor]:
        """As each part says."""
        return self.joined([part.warp(one, margin) for part, one in self.each(values)])

    def correspondences(self, logits: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """As each part says."""
        return self.joined([part.correspondences(one, count, generator) for part, one in self.each(logits)])

    def each(self, values: Tensor) -> Iterator[tuple[ViewPair | LandmarkPair, Tensor]]:
        """The parts with their rows of a tensor [B, ...]."""
        return zip(self.parts, values.split([len(part.first) for part in self.parts]), strict=True)

    @staticmethod
    def joined(results: Sequence[tuple[Tensor, ...]]) -> tuple[Any, ...]:
        """The rows of all parts."""
        return tuple(torch.cat(one) for one in zip(*results, strict=True))


Pair = ViewPair | LandmarkPair | MixedPair


def draw_points(logits: Tensor, count: int, generator: torch.Generator, margin: int = 4) -> Tensor:
    """Half of the points at the score map's maxima (likelier where it is high), half anywhere: [B, count, 2]."""
    batch, _, height, width = logits.shape
    there = generator_on(generator, logits.device)
    noise = torch.rand(logits.shape, generator=there, device=logits.device).clamp(1e-9, 1 - 1e-7)
    edge = torch.ones_like(logits, dtype=torch.bool)
    edge[..., margin:-margin, margin:-margin] = False
    keys = logits - torch.log(-torch.log(noise))
    keys = keys.masked_fill(~local_maxima(logits, 2) | edge, -1e9).flatten(1)
    top = keys.topk(count // 2, dim=1).indices
    peaks = torch.stack([top % width, top // width], -1).float()
    peaks = peaks + torch.rand(peaks.shape, generator=there, device=logits.device) - 0.5
    grid = pixel_grid(height - 2 * margin, width - 2 * margin, logits.device) + margin
    chosen = torch.randint(len(grid), (batch, count - count // 2), generator=there, device=logits.device)
    anywhere = grid[chosen]
    anywhere = anywhere + torch.rand(anywhere.shape, generator=there, device=logits.device) - 0.5
    return torch.cat([peaks, anywhere], 1)

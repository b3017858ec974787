"""Validation: how well views of held-out photos match."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tpr.geometry import Warp
from tpr.keypoints import detect
from tpr.networks import Dense, Network
from tpr.networks.base import standardize
from tpr.networks.corners import CornerLogits
from tpr.photometric import Light
from tpr.photos import Photos
from tpr.randomness import generator_for
from tpr.views import ViewPair, Views

FIGURES = ("accuracy", "repeatability", "mma1", "mma3")


def validation_pairs(photos: Photos, size: int = 160, count: int = 96, seed: int = 7) -> ViewPair:
    """The same pairs each time, at full strength of the default warp and light, whatever is trained with."""
    return Views(size, same_camera_fraction=0.0).draw(photos, count, 1.0, generator_for(seed, "validation"))


def hours_pairs(photos: Photos, size: int = 320, count: int = 48, seed: int = 7) -> ViewPair | None:
    """Pairs of photos of one fixed camera at two hours, always the same ones; None where no camera has two photos.

    Barely warped, and without synthetic light: what differs is the hour, the weather and the season.
    """
    if not photos.cameras:
        return None
    warp = Warp(relief=0.0, scale=(1.0, 1.0))
    light = Light(exposure=0.0, gamma=1.0, noise=0.0, blur=0.0, shadow=0.0, night=0.0, fog=0.0, jpeg=0.0)
    views = Views(size, warp, light, same_camera_fraction=1.0)
    return views.draw(photos, count, 0.2, generator_for(seed, "hours"))


def mutual(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns that are each other's best in [N, M]."""
    best = similarity.argmax(1)
    rows = torch.arange(len(best), device=best.device)
    keep = similarity.argmax(0)[best] == rows
    return rows[keep], best[keep]


@torch.inference_mode()
def validate(network: Network, pairs: ViewPair, limit: int = 128, batch: int = 16) -> dict[str, float]:
    """Matching on `pairs`.

    Returns:
        accuracy: share of corners (the same for every network) whose nearest descriptor among the corners' true
            places in the other view is the right one;
        repeatability: share of detected keypoints with one of the other view's within 3 px;
        mma1, mma3: share of mutual nearest neighbours of detected keypoints within 1 and 3 px of the truth.
        Means over the pairs in which the views share at least 8 of each.
    """
    training = network.training
    network.eval()
    measured = []
    for start in range(0, len(pairs.first), batch):
        part = pairs.part(start, start + batch)
        dense = network(part.first), network(part.second)
        corners = CornerLogits()(standardize(part.first))
        for b in range(len(part.first)):
            views = [of_image(d, b) for d in dense]
            measured.append(measure(network, part.part(b, b + 1), views, corners[b, 0], limit))
    network.train(training)
    found = [m for m in measured if m]
    return {name: sum(m[name] for m in found) / max(len(found), 1) for name in FIGURES}


def of_image(dense: Dense, index: int) -> Dense:
    """A network's output for one image of a batch."""
    part = slice(index, index + 1)
    return Dense(tuple(level[part] for level in dense.descriptors), dense.logits[part].float())


def measure(
    network: Network, pair: ViewPair, views: list[Dense], corners: Tensor, limit: int
) -> dict[str, float] | None:
    """The figures of one pair; None where too little is seen in both views."""

    def describe(side: int, points: Tensor) -> Tensor:
        return F.normalize(network.descriptors_at(views[side].descriptors, points[None])[0], dim=-1)

    def seen_in(pair: ViewPair, points: Tensor) -> tuple[Tensor, Tensor]:
        there, seen = pair.match(points[None], margin=4)
        return points[seen[0]], there[0, seen[0]]

    here, there = seen_in(pair, detect(corners, limit)[0])
    first, expected = seen_in(pair, detect(views[0].logits[0, 0], limit)[0])
    found = detect(views[1].logits[0, 0], limit)[0]
    second, _ = seen_in(pair.swapped(), found)
    if min(len(here), len(first), len(second)) < 8:
        return None
    nearest = (describe(0, here) @ describe(1, there).T).argmax(1)
    right = nearest == torch.arange(len(nearest), device=nearest.device)
    rows, columns = mutual(describe(0, first) @ describe(1, second).T)
    error = (expected[rows] - second[columns]).norm(dim=-1)
    return {
        "accuracy": right.float().mean().item(),
        "repeatability": (torch.cdist(expected, found).amin(1) < 3).float().mean().item(),
        "mma1": (error < 1).float().mean().item(),
        "mma3": (error < 3).float().mean().item(),
    }

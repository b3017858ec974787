"""How well a network matches views of photos that it never learned from."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tpr.geometry import apply_homography
from tpr.keypoints import detect
from tpr.networks import Network, sample_descriptors
from tpr.networks.corners import CornerLogits
from tpr.photos import Photos
from tpr.views import ViewPair, Views


def validation_pairs(photos: Photos, views: Views, count: int = 96, seed: int = 7) -> ViewPair:
    """The same pairs each time, at full strength."""
    return views.draw(photos, count, 1.0, torch.Generator().manual_seed(seed))


def mutual(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns that are each other's best in [N, M]."""
    best = similarity.argmax(1)
    rows = torch.arange(len(best))
    keep = similarity.argmax(0)[best] == rows
    return rows[keep], best[keep]


@torch.inference_mode()
def validate(network: Network, pairs: ViewPair, limit: int = 128) -> dict[str, float]:
    """Matching on `pairs`.

    Returns:
        accuracy: share of corners (the same for every network) whose nearest descriptor among the corners' true
            places in the other view is the right one;
        repeatability: share of detected keypoints with one of the other view's within 3 px;
        mma1, mma3: share of mutual nearest neighbours of detected keypoints within 1 and 3 px of the truth.
    """
    network.eval()
    corners = CornerLogits()
    totals = dict.fromkeys(("accuracy", "repeatability", "mma1", "mma3"), 0.0)
    count = 0
    for start in range(0, len(pairs.first), 16):
        part = ViewPair(*(x[start : start + 16] for x in (pairs.first, pairs.second, pairs.forward)))
        dense = [network(part.first), network(part.second)]
        corner_map = corners(part.first)
        for b in range(len(part.first)):
            one = ViewPair(part.first[b : b + 1], part.second[b : b + 1], part.forward[b : b + 1])
            points = detect(corner_map[b, 0], limit)[0][None]
            there, valid = one.match(points, margin=4)
            points, there = points[:, valid[0]], there[:, valid[0]]
            found = [detect(d.logits[b, 0], limit) for d in dense]
            expected, seen = one.match(found[0][0][None], margin=4)
            _back, back_seen = one.swapped().match(found[1][0][None], margin=4)
            keep, keep_back = seen[0], back_seen[0]
            if points.shape[1] < 8 or keep.sum() < 8 or keep_back.sum() < 8:
                continue
            count += 1

            def describe(side: int, where: Tensor, b: int = b) -> Tensor:
                maps = dense[side].descriptors[b : b + 1]
                return F.normalize(sample_descriptors(maps, where, network.stride)[0], dim=-1)

            nearest = (describe(0, points) @ describe(1, there).T).argmax(1)
            totals["accuracy"] += (nearest == torch.arange(len(nearest))).float().mean().item()
            distance = torch.cdist(expected[0], found[1][0])
            totals["repeatability"] += (distance[keep].min(1).values < 3).float().mean().item()
            first, second = found[0][0][None, keep], found[1][0][None, keep_back]
            rows, columns = mutual(describe(0, first) @ describe(1, second).T)
            error = (apply_homography(one.forward, first)[0, rows] - second[0, columns]).norm(dim=-1)
            totals["mma1"] += (error < 1).float().mean().item()
            totals["mma3"] += (error < 3).float().mean().item()
    return {name: total / max(count, 1) for name, total in totals.items()}

"""Centres of a network's descriptors, for global descriptors of images (VLAD)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tpr.keypoints import detect
from tpr.networks import Network, sample_descriptors
from tpr.photos import Photos


@torch.inference_mode()
def keypoint_descriptors(network: Network, photos: Photos, images: int = 400, keypoints: int = 200) -> Tensor:
    """Unit descriptors at the strongest keypoints of photos spread evenly over all: [M, D] on the CPU."""
    network.eval()
    found = []
    for i in range(0, len(photos), -(-len(photos) // images)):
        grey = photos.levels[i][0].float().mean(0)[None, None] / 255
        dense = network(grey)
        points = detect(dense.logits[0, 0], keypoints)[0]
        found.append(F.normalize(sample_descriptors(dense.descriptors, points[None], network.stride)[0], dim=-1).cpu())
    return torch.cat(found)


def build_vocabulary(network: Network, photos: Photos, size: int = 64, seed: int = 0) -> Tensor | None:
    """k-means centres of the descriptors of photos: float32 [size, D]; None where there are too few descriptors."""
    import faiss

    samples = keypoint_descriptors(network, photos).numpy().astype(np.float32)
    if len(samples) < size:
        return None
    kmeans = faiss.Kmeans(samples.shape[1], size, niter=25, seed=seed, min_points_per_centroid=1)
    kmeans.train(np.ascontiguousarray(samples))
    return torch.from_numpy(kmeans.centroids.copy())

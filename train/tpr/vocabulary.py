"""Learn the vocabulary and the whitening of global descriptors from the training photos."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tpr.keypoints import detect
from tpr.networks import Network
from tpr.photos import Photos
from tpr.vlad import Vocabulary, cluster, vlad, whitened

WHITENED = 256  # numbers of a global descriptor
MIN_PHOTOS = 2 * WHITENED  # from which a whitening can be learned


@torch.inference_mode()
def keypoint_descriptors(network: Network, photos: Photos, images: int = 400, keypoints: int = 200) -> Tensor:
    """Unit descriptors at the strongest keypoints of photos spread evenly over all: [M, D] on the CPU."""
    network.eval()
    found = []
    for i in range(0, len(photos), -(-len(photos) // images)):
        found.append(_descriptors(network, photos.levels[i][0], keypoints).cpu())
    return torch.cat(found)


def build_vocabulary(network: Network, photos: Photos, size: int = 64, seed: int = 0) -> Vocabulary | None:
    """`size` k-means centres of the photos' descriptors, and a whitening fitted to the photos' VLAD vectors.

    Returns:
        None where there are fewer descriptors than centres; without a whitening where there are fewer than
        `MIN_PHOTOS` photos.
    """
    samples = keypoint_descriptors(network, photos).numpy().astype(np.float32)
    if len(samples) < size:
        return None
    centres = cluster(samples, size, seed)
    if len(photos) < MIN_PHOTOS:
        return Vocabulary(centres)
    return whitened(centres, global_vectors(network, photos, centres), WHITENED)


@torch.inference_mode()
def global_vectors(network: Network, photos: Photos, centres: np.ndarray, keypoints: int = 2000) -> np.ndarray:
    """VLAD of each photo: float32 [M, K * D]."""
    found = (
        _descriptors(network, photos.levels[i][0], keypoints).cpu().numpy().astype(np.float32)
        for i in range(len(photos))
    )
    return np.stack([vlad(descriptors, centres) for descriptors in found])


def _descriptors(network: Network, photo: Tensor, keypoints: int) -> Tensor:
    """Unit descriptors [N, D] at the strongest keypoints of a photo [3, H, W]."""
    dense = network(photo.float().mean(0)[None, None] / 255)
    points = detect(dense.logits[0, 0], keypoints)[0]
    return F.normalize(network.descriptors_at(dense.descriptors, points[None])[0], dim=-1)

"""What training starts from: given weights, and a first projection where they had none."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tpr.config import ConfigError
from tpr.keypoints import detect
from tpr.networks import Network, sample_descriptors
from tpr.photos import Photos
from tpr.vlad import Vocabulary
from tpr.weights import WeightsError, load_weights


def start_from(network: Network, weights: str, photos: Photos) -> Vocabulary | None:
    """Give a network the parameters of a weights file; a projection that it alone has starts from the photos.

    Returns:
        The vocabulary in the file, if it is of these descriptors.

    Raises:
        ConfigError: the file can't be used, or is of another network.
    """
    try:
        given, vocabulary = load_weights(weights)
        missing, unexpected = network.load_state_dict(given.state_dict(), strict=False)
    except WeightsError as error:
        raise ConfigError(f"start: {error}") from error
    except RuntimeError as error:
        raise ConfigError(f"start={weights}: weights of another network than is to be trained") from error
    if unexpected or not all(name.startswith("projection.") for name in missing):
        raise ConfigError(f"start={weights}: weights of another network than is to be trained")
    if not missing:
        return vocabulary
    start_projection(network, photos)
    return None


@torch.no_grad()
def start_projection(network: Network, photos: Photos, images: int = 150, keypoints: int = 300) -> None:
    """Set a network's projection to the principal components of what it reads at keypoints of photos, turned at random.

    The components keep the similarities of descriptors; turned, all numbers vary alike, so that the batch
    normalisation that follows changes little.
    """
    network.eval()
    found = []
    for i in range(0, len(photos), -(-len(photos) // images)):
        dense = network(photos.levels[i][0].float().mean(0)[None, None] / 255)
        points = detect(dense.logits[0, 0], keypoints)[0]
        found.append(F.normalize(sample_descriptors(dense.descriptors, points[None], network.stride)[0], dim=-1))
    read = torch.cat(found).double()
    assert network.projection is not None
    linear, norm = network.projection
    assert isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
    components = torch.linalg.eigh(read.T @ read / len(read)).eigenvectors[:, -linear.out_features :]
    turn = torch.linalg.qr(torch.randn(linear.out_features, linear.out_features, dtype=torch.double)).Q
    linear.weight.copy_((components @ turn).T)
    projected = linear(torch.cat(found))
    norm.running_mean, norm.running_var = projected.mean(0), projected.var(0)
    network.train()

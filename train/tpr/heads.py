"""The small perceptrons between descriptors and loss: projectors g and the predictor q."""

from __future__ import annotations

from enum import Enum

from torch import nn


class Projector(Enum):
    """What g is: nothing (the network's own linear head is kept and used), or a perceptron that is thrown away."""

    none = "none"
    mlp = "mlp"


def perceptron(dim: int) -> nn.Module:
    """Two layers with batch normalisation between them, as in BYOL (Grill et al., NeurIPS 2020)."""
    return nn.Sequential(
        nn.Linear(dim, 2 * dim, bias=False), nn.BatchNorm1d(2 * dim), nn.ReLU(inplace=True), nn.Linear(2 * dim, dim)
    )


def projector(kind: Projector, dim: int) -> nn.Module:
    """g for descriptors of a dimension."""
    return perceptron(dim) if kind is Projector.mlp else nn.Identity()

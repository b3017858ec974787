"""Cluster quality of labelled vectors."""

from __future__ import annotations

import numpy as np


def silhouette(vectors: np.ndarray, labels: np.ndarray) -> float:
    """The mean silhouette by cosine distance: 1 for tight, separate groups, 0 for overlapping ones.

    Of each vector (b - a) / max(a, b): a is its mean distance to the others of its group, b the least mean distance
    to another group; 0 where it is alone in its group.

    Args:
        vectors: [N, D].
        labels: [N], the group of each; at least two groups.

    Returns:
        In [-1, 1]. Source: Rousseeuw, 1987.
    """
    labels = np.unique(labels, return_inverse=True)[1]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    np.fill_diagonal(distance, 0)
    member = np.eye(labels.max() + 1)[labels]  # [N, groups]
    total, size = distance @ member, member.sum(0)
    own = size[labels]
    rows = np.arange(len(labels))
    within = total[rows, labels] / np.maximum(own - 1, 1)
    between = total / size
    between[rows, labels] = np.inf
    nearest = between.min(1)
    values = (nearest - within) / np.maximum(np.maximum(nearest, within), 1e-12)
    return float(np.where(own > 1, values, 0).mean())

"""Overlap of photos, and the recall of image retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def in_view(
    points: np.ndarray, rotation: np.ndarray, center: np.ndarray, K: np.ndarray, size: Sequence[int]
) -> np.ndarray:
    """Which points of the scene lie in a known camera's frustum; occlusion is ignored.

    Args:
        points: float [P, 3], in the cameras' world.
        rotation: [3, 3], world to camera.
        center: [3], the projection centre.
        K: [3, 3], pixels; the centre of the top-left pixel is (0, 0).
        size: (width, height).

    Returns:
        bool [P].
    """
    x, y, z = ((points - center) @ rotation.T @ K.T).T
    width, height = size
    half = 0.5 * z  # the image begins half a pixel before the first centre
    inside = (x >= -half) & (x <= width * z - half) & (y >= -half) & (y <= height * z - half)
    return inside & (z > 0)


def seen_points(observed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From a map's tracks: the points' ids that each image sees -> bool [P] each, P of all the ids that occur."""
    ids = np.unique(np.concatenate([np.zeros(0, np.int64), *observed.values()]))
    return {name: np.isin(ids, seen) for name, seen in observed.items()}


def overlapping(seen: Mapping[str, np.ndarray], least: float = 0.1) -> dict[str, set[str]]:
    """The other images that each image truly overlaps with.

    Args:
        seen: bool [P] by image name, as `in_view` or `seen_points` gives it: the points that the image sees.
        least: share of the points of the one that sees fewer that both must see.

    Returns:
        Names by image name; symmetric, none with itself.
    """
    names = list(seen)
    sees = np.array([seen[name] for name in names], np.float32).reshape(len(names), -1)
    counts = sees.sum(1)
    fewer = np.maximum(np.minimum(counts[:, None], counts), 1)
    share = sees @ sees.T / fewer
    np.fill_diagonal(share, 0)
    return {name: {names[j] for j in np.flatnonzero(row >= least)} for name, row in zip(names, share, strict=True)}


def recall(found: Mapping[str, Sequence[str]], truth: Mapping[str, set[str]], k: int) -> tuple[float, float]:
    """Recall at k over the queries that truly overlap with some image.

    Args:
        found: the images retrieved for each query, the most similar first, the query's own photo not among them.
        truth: the images that truly overlap with it.
        k: how many of those found count.

    Returns:
        hits: share of the queries with at least one true image among their first k (place recognition's recall@k).
        share: mean over the queries of the true images among their first k, as a share of as many as could be there.
        Both NaN where no query has a true image.
    """
    hits, shares = [], []
    for query, names in found.items():
        if truth[query]:
            count = len(truth[query].intersection(names[:k]))
            hits.append(count > 0)
            shares.append(count / min(k, len(truth[query])))
    return (float(np.mean(hits)), float(np.mean(shares))) if hits else (float("nan"), float("nan"))

"""A view graph cut into overlapping parts that can be mapped one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_matrix, csr_matrix, identity
from scipy.sparse.csgraph import connected_components, laplacian
from scipy.sparse.linalg import eigsh

from tpsfm.pairs.selection import Pair

_SHARED = 3  # photos that a part takes in at least
_DENSE = 2000  # photos up to which all eigenvectors are as fast as two


def cut(names: Iterable[str], weights: Mapping[Pair, float], largest: int, overlap: float = 0.2) -> list[list[str]]:
    """Parts of a view graph, each connected, that overlap with one another.

    A part that is too large is halved by the Fiedler vector of its normalized Laplacian, so that few matches are cut
    through; at the end each part takes some photos of the others in, those that have the most matches with it.

    Args:
        names: of the photos.
        weights: by pair, how many matches are verified.
        largest: photos of a part, at most, before it takes others in.
        overlap: how many it takes in, of those it has.

    Returns:
        Names of each part, sorted; the largest first, then each after one that it overlaps with, where there is one.

    Source: Shi and Malik, Normalized Cuts, PAMI 2000.
    """
    order = sorted(names)
    index = {name: number for number, name in enumerate(order)}
    ends = np.array([(index[a], index[b]) for a, b in weights], int).reshape(-1, 2)
    values = np.array(list(weights.values()), float)
    graph = coo_matrix((values, ends.T), (len(order), len(order))).tocsr()
    graph = graph + graph.T
    parts = []
    waiting = [np.arange(len(order))] if order else []
    while waiting:
        members = waiting.pop()
        count, label = connected_components(graph[members][:, members], directed=False)
        if count > 1:
            waiting += [members[label == one] for one in range(count)]
        elif len(members) > largest:
            side = _halves(graph[members][:, members])
            waiting += [members[side], members[~side]]
        else:
            parts.append(members)
    widened = [_widened(members, graph, max(_SHARED, round(overlap * len(members)))) for members in parts]
    return [[order[i] for i in members] for members in _chained(widened)]


def _halves(graph: csr_matrix) -> np.ndarray:
    """Which half of a connected graph a node belongs to, bool [N]; what hangs on the other half alone goes there."""
    scaled = laplacian(graph, normed=True)
    if graph.shape[0] <= _DENSE:
        _, vectors = eigh(scaled.toarray(), subset_by_index=[1, 1])
    else:
        start = np.random.default_rng(0).normal(size=graph.shape[0])
        _, vectors = eigsh(2 * identity(graph.shape[0]) - scaled, 2, which="LA", v0=start)  # ascending
    second = vectors[:, 0] / np.sqrt(np.asarray(graph.sum(1)).ravel())
    side = np.zeros(len(second), bool)
    side[np.argsort(second, kind="stable")[: len(second) // 2]] = True
    for half in (True, False):
        own = np.flatnonzero(side == half)
        _, label = connected_components(graph[own][:, own], directed=False)
        side[own[label != np.bincount(label).argmax()]] = not half
    return side


def _widened(members: np.ndarray, graph: csr_matrix, count: int) -> np.ndarray:
    """A part with those of the other nodes that are connected to it most."""
    strength = np.asarray(graph[members].sum(0)).ravel()
    strength[members] = 0
    best = np.argsort(-strength, kind="stable")[:count]
    return np.sort(np.concatenate([members, best[strength[best] > 0]]))


def _chained(parts: list[np.ndarray]) -> list[np.ndarray]:
    """The largest part, then always the one that has the most in common with those before it."""
    left = sorted(parts, key=lambda part: (-len(part), part[0]))
    chain: list[np.ndarray] = []
    while left:
        before = np.concatenate(chain) if chain else np.empty(0, int)
        best = max(range(len(left)), key=lambda i: (np.isin(left[i], before).sum(), -i))
        chain.append(left.pop(best))
    return chain

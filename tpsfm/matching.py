"""Mutual nearest neighbours of descriptors, for two images and for many pairs of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from tpsfm.errors import TpsfmError
from tpsfm.pairs import Pair
from tpsfm.parallel import in_order

if TYPE_CHECKING:
    from tpsfm.store import FeatureStore, MatchStore

# Rows and columns of a block of similarities: on a CPU it stays in the cache while its maxima are taken.
CPU_BLOCK = 1024
GPU_BLOCK = 8192


@dataclass(frozen=True)
class MatchOptions:
    """What a match must satisfy beside being mutual.

    Attributes:
        min_similarity: least cosine similarity, in [-1, 1]; None allows all.
        ratio: greatest ratio, in (0, 1], of the Euclidean distances to the nearest and to the second nearest
            neighbour, tested in both images (Lowe 2004); None tests nothing.

    Raises:
        TpsfmError: a value is out of its range.
    """

    min_similarity: float | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise TpsfmError(f"the least similarity of a match must lie in [-1, 1], not {self.min_similarity}")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise TpsfmError(f"the ratio of a match must lie in (0, 1], not {self.ratio}")


@torch.inference_mode()
def mutual_nearest(
    descriptors0: np.ndarray | torch.Tensor,
    descriptors1: np.ndarray | torch.Tensor,
    min_similarity: float | None = None,
    ratio: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of descriptors that are each other's nearest neighbour.

    Similarities are computed in the descriptors' own type and on their device, one small block at a time. Of
    equally near neighbours the one of the lowest index counts.

    Args:
        descriptors0: [N, D], unit L2 norm.
        descriptors1: [M, D], unit L2 norm, of the same type and on the same device.
        min_similarity, ratio: as in `MatchOptions`.

    Returns:
        matches: uint32 [K, 2], indices into the two, in ascending order of the first; none occurs twice.
        similarity: float32 [K], cosine.
    """
    options = MatchOptions(min_similarity, ratio)
    d0, d1 = torch.as_tensor(descriptors0), torch.as_tensor(descriptors1)
    if not len(d0) or not len(d1):
        return np.empty((0, 2), np.uint32), np.empty(0, np.float32)

    similarity, nearest, column_maximum = _nearest(d0, d1)
    # The row maxima that are column maxima too, each column's first.
    rows = np.flatnonzero(similarity == column_maximum[nearest])
    rows = np.sort(rows[np.unique(nearest[rows], return_index=True)[1]])
    if options.min_similarity is not None:
        rows = rows[similarity[rows] >= options.min_similarity]
    if options.ratio is not None:
        columns = nearest[rows]
        second = np.maximum(_second_nearest(d0, d1, rows, columns), _second_nearest(d1, d0, columns, rows))
        rows = rows[_distance(similarity[rows]) <= options.ratio * _distance(second)]
    matches = np.stack([rows, nearest[rows]], axis=1).astype(np.uint32)
    return matches, similarity[rows].astype(np.float32)


def _nearest(d0: torch.Tensor, d1: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row's greatest similarity [N] and its column [N], and each column's greatest similarity [M]."""
    size = _block_size(d0)
    buffer = d0.new_empty(min(size, len(d0)) * min(size, len(d1)))
    maximum = d0.new_full((len(d0),), -torch.inf)
    nearest = torch.zeros(len(d0), dtype=torch.int64, device=d0.device)
    column_maximum = d0.new_full((len(d1),), -torch.inf)
    for top in range(0, len(d0), size):
        rows = slice(top, min(top + size, len(d0)))
        for left in range(0, len(d1), size):
            columns = slice(left, min(left + size, len(d1)))
            shape = rows.stop - top, columns.stop - left
            block = torch.mm(d0[rows], d1[columns].T, out=buffer[: shape[0] * shape[1]].view(shape))
            index = _argmax(block)
            value = block.gather(1, index[:, None])[:, 0]
            better = value > maximum[rows]
            maximum[rows] = torch.where(better, value, maximum[rows])
            nearest[rows] = torch.where(better, index + left, nearest[rows])
            column_maximum[columns] = torch.maximum(column_maximum[columns], block.amax(0))
    return maximum.cpu().numpy(), nearest.cpu().numpy(), column_maximum.cpu().numpy()


def _block_size(descriptors: torch.Tensor) -> int:
    return CPU_BLOCK if descriptors.device.type == "cpu" else GPU_BLOCK


def _argmax(block: torch.Tensor) -> torch.Tensor:
    """The first greatest element's column of each row; on a CPU NumPy is several times as fast as torch."""
    if block.device.type == "cpu":
        return torch.from_numpy(block.numpy().argmax(1))
    return block.argmax(1)


def _second_nearest(d0: torch.Tensor, d1: torch.Tensor, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Greatest similarity [K] of each `d0[rows]` to the descriptors of `d1` other than `d1[columns]`."""
    size = _block_size(d0)
    second = np.full(len(rows), -np.inf, np.float32)
    for top in range(0, len(rows), size):
        queries = d0[torch.from_numpy(rows[top : top + size]).to(d0.device)]
        own = torch.from_numpy(columns[top : top + size]).to(d0.device)
        for left in range(0, len(d1), size):
            block = queries @ d1[left : left + size].T
            inside = ((own >= left) & (own < left + size)).nonzero()[:, 0]
            block[inside, own[inside] - left] = -torch.inf
            part = second[top : top + size]
            np.maximum(part, block.amax(1).float().cpu().numpy(), out=part)
    return second


def _distance(similarity: np.ndarray) -> np.ndarray:
    """Euclidean distance of unit vectors from their cosine."""
    return np.sqrt(np.maximum(2 - 2 * similarity.astype(np.float32), 0))


def match_pairs(
    features: FeatureStore,
    matches: MatchStore,
    pairs: Iterable[Pair],
    keys: Mapping[Pair, str] | Callable[[Pair], str],
    options: MatchOptions | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    memory: int = 256 << 20,
) -> dict[str, int]:
    """Match the pairs and write them to `matches`; those already there under the same key are left alone.

    Descriptors are held for as many images as `memory` allows; every partner of one of them is then read once
    and matched to all of them, before the next images take their place.

    Args:
        features: holds every image of `pairs`.
        matches: open for writing.
        pairs: (name0, name1); written with name0 < name1.
        keys: from a pair to the digest of all that its matches depend on.
        options: thresholds; None has none.
        device: where similarities are computed: in float32 on "cpu", in float16 on a GPU.
        progress: called with (pairs finished, pairs in all) after each pair, and once at the start.
        memory: bytes of descriptors held at a time, beside a few images in passing.

    Returns:
        Counts: `pairs` in all, `matched` now, `reused` from before.
    """
    options = options or MatchOptions()
    key_of = keys if callable(keys) else keys.__getitem__
    pairs = sorted({(min(pair), max(pair)) for pair in pairs})
    todo = [pair for pair in pairs if matches.key(*pair) != key_of(pair)]
    finished = len(pairs) - len(todo)
    if progress:
        progress(finished, len(pairs))

    jobs = (
        (pair, (descriptors0, descriptors1, options.min_similarity, options.ratio))
        for pair, descriptors0, descriptors1 in _with_descriptors(features, todo, device, memory)
    )
    for pair, (found, similarity) in in_parallel(mutual_nearest, jobs):
        matches.write(*pair, found, similarity, key_of(pair))
        finished += 1
        if progress:
            progress(finished, len(pairs))
    return {"pairs": len(pairs), "matched": len(todo), "reused": len(pairs) - len(todo)}


def in_parallel(function: Callable, jobs: Iterable[tuple]) -> Iterator[tuple]:
    """Yield (name, function(*arguments)) of each job (name, arguments) in order, a few ahead in threads.

    One job a thread, each on one core, keeps all cores busy where threads that share a small product wait for
    each other, the more so on a busy machine; and the caller reads and writes meanwhile.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from in_order(pool, function, jobs, threads)
    finally:
        torch.set_num_threads(threads)


def _with_descriptors(
    features: FeatureStore, pairs: list[Pair], device: str, memory: int
) -> Iterator[tuple[Pair, torch.Tensor, torch.Tensor]]:
    """Yield every pair once, with its two descriptors [N, D], reading few of them twice.

    `memory` bytes of them are held, filled up by one image, beside the pair in passing.
    """
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
    partners: dict[str, set[str]] = {}
    for name0, name1 in pairs:
        partners.setdefault(name0, set()).add(name1)
        partners.setdefault(name1, set()).add(name0)

    def read(name: str) -> torch.Tensor:
        return torch.from_numpy(features.read(name).descriptors).to(device, dtype)

    while partners:
        held: dict[str, torch.Tensor] = {}
        room = memory
        for name in sorted(partners):
            if room <= 0:
                break
            held[name] = read(name)
            room -= held[name].nbytes
        for partner in sorted(set().union(*(partners[name] for name in held))):
            mates = partners[partner] & held.keys()
            if partner in held:
                mates = {name for name in mates if name < partner}
            descriptors = held[partner] if partner in held else read(partner)
            for name in sorted(mates):
                if name < partner:
                    yield (name, partner), held[name], descriptors
                else:
                    yield (partner, name), descriptors, held[name]
        for name in held:
            for partner in partners.pop(name):
                if partner in partners:
                    partners[partner].discard(name)
        partners = {name: rest for name, rest in partners.items() if rest}

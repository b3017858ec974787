"""Mutual nearest neighbours of descriptors, for two images and for many pairs of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from tpsfm.device import computes_bfloat16
from tpsfm.errors import TpsfmError
from tpsfm.pairs.selection import Pair
from tpsfm.parallel import in_order

if TYPE_CHECKING:
    from tpsfm.io.store import FeatureStore, MatchStore

# Rows and columns of a block of distances: on a CPU it stays in the cache while its minima are taken.
CPU_BLOCK = 1024
GPU_BLOCK = 8192
# Sides of blocks are padded to a multiple: for every other shape oneDNN makes and keeps a program of its own, 250 kB.
STEP = 128


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


def matching_type(device: torch.device) -> torch.dtype:
    """The type in which descriptors are matched fastest without harm."""
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if computes_bfloat16(device) else torch.float32


@torch.inference_mode()
def mutual_nearest(
    descriptors0: np.ndarray | torch.Tensor,
    descriptors1: np.ndarray | torch.Tensor,
    min_similarity: float | None = None,
    ratio: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of descriptors that are each other's nearest neighbour.

    Distances are computed in the descriptors' own type and on their device, one small block at a time. Of equally near
    neighbours the one of the lowest index counts. bfloat16 tells distances apart that differ by a part in 200.

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

    nearest, ours, theirs = _nearest(d0, d1)
    # The row minima that are column minima too, each column's first.
    rows = np.flatnonzero(ours[0] == theirs[0, nearest])
    rows = np.sort(rows[np.unique(nearest[rows], return_index=True)[1]])
    if options.ratio is not None:
        second = np.minimum(ours[1, rows], theirs[1, nearest[rows]])
        rows = rows[_euclidean(ours[0, rows]) <= options.ratio * _euclidean(second)]
    matches = np.stack([rows, nearest[rows]], axis=1)
    ends = (d[torch.from_numpy(index).to(d.device)].float() for d, index in zip((d0, d1), matches.T, strict=True))
    similarity = torch.linalg.vecdot(*ends).cpu().numpy()
    if options.min_similarity is not None:
        near = similarity >= options.min_similarity
        matches, similarity = matches[near], similarity[near]
    return matches.astype(np.uint32), similarity


def _nearest(d0: torch.Tensor, d1: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row's nearest column [N], and the least and second least 1 - cosine of each row [2, N] and column [2, M].

    A float is as exact relatively when it is small: where cosines near 1 are equal in bfloat16, what they lack is not.
    """
    size = CPU_BLOCK if d0.device.type == "cpu" else GPU_BLOCK
    ours, theirs = (_ordered(d.new_full((2, len(d)), torch.inf)) for d in (d0, d1))
    nearest = torch.zeros(len(d0), dtype=torch.int64, device=d0.device)
    padded0, padded1 = (functional.pad(d, (0, 0, 0, -len(d) % STEP)) for d in (d0, d1))
    one, buffer = d0.new_ones(1), d0.new_empty(min(size, len(padded0)) * min(size, len(padded1)))
    for top in range(0, len(d0), size):
        rows = slice(top, min(top + size, len(d0)))
        for left in range(0, len(d1), size):
            columns = slice(left, min(left + size, len(d1)))
            some0, some1 = padded0[top : top + size], padded1[left : left + size]
            block = buffer[: len(some0) * len(some1)].view(len(some0), -1)
            block = _ordered(torch.addmm(one, some0, some1.T, alpha=-1, out=block))
            block = block[: rows.stop - top, : columns.stop - left]
            theirs[:, columns] = _two_least(theirs[:, columns], _two_least_of_columns(block))
            index = _argmin(block)[:, None]
            least = block.gather(1, index)[:, 0]
            second = block.scatter_(1, index, _infinity(block)).amin(1)
            nearest[rows] = torch.where(least < ours[0, rows], index[:, 0] + left, nearest[rows])
            ours[:, rows] = _two_least(ours[:, rows], torch.stack([least, second]))
    return nearest.cpu().numpy(), *(two.view(d0.dtype).float().cpu().numpy() for two in (ours, theirs))


def _ordered(values: torch.Tensor) -> torch.Tensor:
    """bfloat16 from 0 up as integers of the same order, which a CPU compares many times as fast."""
    return values.view(torch.int16) if values.dtype == torch.bfloat16 else values


def _infinity(like: torch.Tensor) -> float:
    """Infinity as `_ordered` has it."""
    return 0x7F80 if like.dtype == torch.int16 else torch.inf


def _two_least(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The two least [2, ...] of the two least of some and the two least of others."""
    two = torch.empty_like(one)
    torch.minimum(torch.maximum(one[0], other[0], out=two[0]), torch.minimum(one[1], other[1]), out=two[1])
    torch.minimum(one[0], other[0], out=two[0])
    return two


def _two_least_of_columns(block: torch.Tensor) -> torch.Tensor:
    """The least and the second least [2, M] of each column of [N, M], by halves: sorting takes many times as long."""
    one, other, odd = _halves(block, 0)
    two = torch.stack([torch.minimum(one, other), torch.maximum(one, other)])
    if len(odd):
        two = torch.cat([two, torch.stack([odd, torch.full_like(odd, _infinity(odd))])], 1)
    while two.shape[1] > 1:
        one, other, odd = _halves(two, 1)
        two = _two_least(one, other)
        if odd.shape[1]:
            two = torch.cat([two, odd], 1)
    return two[:, 0]


def _halves(values: torch.Tensor, dim: int) -> Sequence[torch.Tensor]:
    """Two halves, and the odd last one or nothing."""
    half, odd = divmod(values.shape[dim], 2)
    return values.split([half, half, odd], dim)


def _argmin(block: torch.Tensor) -> torch.Tensor:
    """The first least element's column of each row; on a CPU NumPy is several times as fast as torch."""
    if block.device.type == "cpu":
        return torch.from_numpy(block.numpy().argmin(1))
    return block.argmin(1)


def _euclidean(values: np.ndarray) -> np.ndarray:
    """Distance of unit vectors from 1 - cosine."""
    return np.sqrt(np.maximum(2 * values, 0))


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
        device: where distances are computed, in `matching_type` of it.
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
    dtype = matching_type(torch.device(device))
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

"""Mutual nearest neighbours: the matcher that any descriptors can do with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional

from tpsfm.device import choose_device, computes_bfloat16
from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor, Features
from tpsfm.matching import Matcher

# Rows and columns of a block of distances: on a CPU it stays in the cache while its minima are taken.
CPU_BLOCK = 2048
GPU_BLOCK = 8192
# Sides of blocks are padded to a multiple: for every other shape oneDNN makes and keeps a program of its own, 250 kB.
STEP = 128
_GROUP = 32  # rows of which the least is taken first where two of a column are wanted; divides STEP


class MutualNearest(Matcher):
    """Pairs of descriptors that are each other's nearest neighbour.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda" ...
        min_similarity: least cosine similarity of a match, in [-1, 1]; None allows all.
        ratio: greatest ratio, in (0, 1], of the Euclidean distances to the nearest and to the second nearest
            neighbour, tested in both images (Lowe 2004); None tests nothing.

    Raises:
        TpsfmError: a threshold is out of its range, or the device isn't there.
    """

    name = "nearest"

    def __init__(self, device: str = "auto", min_similarity: float | None = None, ratio: float | None = None) -> None:
        check_thresholds(min_similarity, ratio)
        self.device: torch.device = choose_device(device)
        self.min_similarity, self.ratio = min_similarity, ratio

    @classmethod
    def create(
        cls,
        extractor: type[Extractor],
        device: str = "auto",
        min_similarity: float | None = None,
        ratio: float | None = None,
    ) -> MutualNearest:
        """As `Matcher.create`: a ratio that is not given is the extractor's own, and 1 tests nothing."""
        ratio = extractor.ratio if ratio is None else ratio
        return cls(device, min_similarity, None if ratio == 1 else ratio)

    def prepare(self, features: Features) -> Features:
        """The features with their descriptors on the device, in `matching_type`."""
        descriptors = torch.as_tensor(features.descriptors).to(self.device, matching_type(self.device))
        return replace(features, descriptors=cast(np.ndarray, descriptors))

    def match(self, first: Features, second: Features) -> tuple[np.ndarray, np.ndarray]:
        """As `Matcher.match`; the scores are cosine similarities."""
        return mutual_nearest(first.descriptors, second.descriptors, self.min_similarity, self.ratio)

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"name": self.name, "min_similarity": self.min_similarity, "ratio": self.ratio}


def check_thresholds(min_similarity: float | None, ratio: float | None) -> None:
    """Refuse thresholds that are out of their range.

    Raises:
        TpsfmError: one is.
    """
    if min_similarity is not None and not -1 <= min_similarity <= 1:
        raise TpsfmError(f"the least similarity of a match must lie in [-1, 1], not {min_similarity}")
    if ratio is not None and not 0 < ratio <= 1:
        raise TpsfmError(f"the ratio of a match must lie in (0, 1], not {ratio}")


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
        min_similarity, ratio: as in `MutualNearest`.

    Returns:
        matches: uint32 [K, 2], indices into the two, in ascending order of the first; none occurs twice.
        similarity: float32 [K], cosine.
    """
    check_thresholds(min_similarity, ratio)
    d0, d1 = torch.as_tensor(descriptors0), torch.as_tensor(descriptors1)
    if not len(d0) or not len(d1):
        return np.empty((0, 2), np.uint32), np.empty(0, np.float32)

    nearest, ours, theirs = _nearest(d0, d1)
    # The row minima that are column minima too, each column's first.
    rows = np.flatnonzero(ours[0] == theirs[0, nearest])
    rows = np.sort(rows[np.unique(nearest[rows], return_index=True)[1]])
    if ratio is not None:
        second = np.minimum(ours[1, rows], theirs[1, nearest[rows]])
        rows = rows[_euclidean(ours[0, rows]) <= ratio * _euclidean(second)]
    matches = np.stack([rows, nearest[rows]], axis=1)
    ends = (d[torch.from_numpy(index).to(d.device)].float() for d, index in zip((d0, d1), matches.T, strict=True))
    similarity = torch.linalg.vecdot(*ends).cpu().numpy()
    if min_similarity is not None:
        near = similarity >= min_similarity
        matches, similarity = matches[near], similarity[near]
    return matches.astype(np.uint32), similarity


def _nearest(d0: torch.Tensor, d1: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row's nearest column [N], and the least and second least 1 - cosine of each row [2, N] and column [2, M].

    A float is as exact relatively when it is small: where cosines near 1 are equal in bfloat16, what they lack is not.
    """
    size = CPU_BLOCK if d0.device.type == "cpu" else GPU_BLOCK
    padded0, padded1 = (functional.pad(d, (0, 0, 0, -len(d) % STEP)) for d in (d0, d1))
    ours, theirs = (_ordered(d.new_full((2, len(d)), torch.inf)) for d in (padded0, padded1))
    nearest = torch.zeros(len(padded0), dtype=torch.int64, device=d0.device)
    one, buffer = d0.new_ones(1), d0.new_empty(min(size, len(padded0)) * min(size, len(padded1)))
    for top in range(0, len(d0), size):
        rows = slice(top, top + size)
        for left in range(0, len(d1), size):
            columns = slice(left, left + size)
            some0, some1 = padded0[rows], padded1[columns]
            block = buffer[: len(some0) * len(some1)].view(len(some0), -1)
            block = _ordered(torch.addmm(one, some0, some1.T, alpha=-1, out=block))
            block[len(d0) - top :], block[:, len(d1) - left :] = _infinity(block), _infinity(block)
            theirs[:, columns] = _two_least(theirs[:, columns], _two_least_of_columns(block))
            index, two = _two_least_of_rows(block)
            nearest[rows] = torch.where(two[0] < ours[0, rows], index + left, nearest[rows])
            ours[:, rows] = _two_least(ours[:, rows], two)
    ours, theirs = (two[:, : len(d)].view(d.dtype).float() for two, d in ((ours, d0), (theirs, d1)))
    return nearest[: len(d0)].cpu().numpy(), ours.cpu().numpy(), theirs.cpu().numpy()


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


def _two_least_of_rows(block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The least element's column [N], the first of equal ones, and the two least [2, N] of each row, which change."""
    index = _argmin(block)
    least = block.gather(1, index[:, None])[:, 0]
    second = block.scatter_(1, index[:, None], _infinity(block)).amin(1)
    return index, torch.stack([least, second])


def _two_least_of_columns(block: torch.Tensor) -> torch.Tensor:
    """The least and the second least [2, M] of each column of [N, M], of which N is a multiple of `_GROUP`.

    The second is the least of another group of rows, or the second of the group that has the least.
    """
    groups = block.unflatten(0, (-1, _GROUP))
    winner, (least, other) = _two_least_of_rows(groups.amin(1).T.contiguous())
    second = _two_least_of_rows(groups[winner, :, torch.arange(len(winner), device=block.device)])[1][1]
    return torch.stack([least, torch.minimum(other, second)])


def _argmin(block: torch.Tensor) -> torch.Tensor:
    """The first least element's column of each row; on a CPU NumPy is several times as fast as torch."""
    if block.device.type == "cpu":
        return torch.from_numpy(block.numpy().argmin(1))
    return block.argmin(1)


def _euclidean(values: np.ndarray) -> np.ndarray:
    """Distance of unit vectors from 1 - cosine."""
    return np.sqrt(np.maximum(2 * values, 0))

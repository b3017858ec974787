"""TPR features: our own network and weights behind the extractor contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tpr.keypoints import detect
from tpr.networks import Network
from tpr.weights import WeightsError, load_weights, shipped_weights, weights_digest

from tpsfm.device import choose_device, computes_bfloat16
from tpsfm.errors import TpsfmError
from tpsfm.features.base import MAX_KEYPOINTS, MAX_SIZE, Extractor, Features
from tpsfm.features.scaling import check_limits, enlarged, reduced
from tpsfm.geometry import rescale_points

CELLS = 8  # along the shorter side of an image, over which its keypoints are spread
CELL_EXPONENT = 1.0  # the odds of a cell's n-th best keypoint are divided by n to this power
MIN_KEYPOINTS = 1000  # that are kept, however low their scores
CLEAR = 0.2  # score of a keypoint that shows something
CLEAR_SHARE = 0.005  # of the keypoints that do so at least, unless the image is blurred or blank; sharp photos: 0.03


class TPR(Extractor):
    """Transformation-Predictive Representations (CVPR 2023). An image that is blurred or blank has no keypoints.

    Args:
        max_keypoints: at most so many keypoints an image, the highest scores first.
        max_size: images whose longer side exceeds it are reduced to it first; keypoints are mapped back.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1" ...
        weights: a safetensors file; None takes the one that is shipped.
        nms_radius: no two keypoints of one scale lie closer than this, pixels of that scale.
        min_score: of more than `MIN_KEYPOINTS` keypoints those below this score, in [0, 1], are dropped; about half of
            those above match.
        scales: sizes at which the image is searched, 1.0 the whole; several scales add scale robustness.
        octaves: how often each is searched: as it is, at half its size, at a quarter ...

    Raises:
        TpsfmError: the weights can't be used, or the device isn't there.
    """

    name = "tpr"
    ratio = 0.9
    map_options: ClassVar[dict[str, Any]] = {"min_score": 0.0}  # twice the points, and more accurate poses
    preview_options: ClassVar[dict[str, Any]] = {"scales": (1.0,)}  # half the time, and twice the matches of a pair

    def __init__(
        self,
        max_keypoints: int = MAX_KEYPOINTS,
        max_size: int = MAX_SIZE,
        device: str = "auto",
        weights: str | Path | None = None,
        nms_radius: int = 2,
        min_score: float = 0.4,
        scales: tuple[float, ...] = (1.0, 0.7),
        octaves: int = 2,
    ):
        check_limits(max_keypoints, max_size)
        self.max_keypoints, self.max_size = max_keypoints, max_size
        self.nms_radius, self.min_score, self.scales = nms_radius, min_score, tuple(scales)
        self.octaves = octaves
        self.device = choose_device(device)
        path = shipped_weights() if weights is None else Path(weights)
        try:
            network, self.vocabulary = load_weights(path)
        except WeightsError as error:
            raise TpsfmError(str(error)) from error
        self.digest = weights_digest(path)
        network.fold()
        dtype = torch.bfloat16 if network.supports_bfloat16 and computes_bfloat16(self.device) else torch.float32
        self.network = cast(Network, fold_batch_norms(network)).to(self.device, dtype)
        self.dim = network.dim

    @property
    def fingerprint(self) -> dict[str, str | int | float | None]:
        return {
            "name": self.name,
            "weights": self.digest,
            "max_keypoints": self.max_keypoints,
            "max_size": self.max_size,
            "nms_radius": self.nms_radius,
            "min_score": self.min_score,
            "scales": str(self.scales),
            "octaves": self.octaves,
        }

    @torch.inference_mode()
    def extract(self, image: np.ndarray, mask: np.ndarray | None = None) -> Features:
        grey, allowed = reduced(image, mask, self.max_size)
        found = [reading for scale in self.scales for reading in self._from_scale(grey, allowed, scale)]
        keypoints = np.concatenate([np.empty((0, 2), np.float32), *(reading.keypoints for reading in found)])
        scores = np.concatenate([np.empty(0, np.float32), *(reading.scores for reading in found)])
        spread = spread_scores(keypoints, scores, grey.shape[::-1])
        best = np.argsort(-spread, kind="stable")
        best = best[(scores[best] >= self.min_score) | (np.arange(len(best)) < MIN_KEYPOINTS)][: self.max_keypoints]
        if (scores[best] > CLEAR).sum() < CLEAR_SHARE * len(best):
            best = best[:0]
        features = Features(keypoints[best], spread[best], self._describe(found, best), grey.shape[::-1])
        return enlarged(features, image, mask)

    def _from_scale(self, grey: np.ndarray, allowed: np.ndarray | None, scale: float) -> Iterator[_Reading]:
        """Each octave of a grey image at one scale."""
        small, allowed = reduced(grey, allowed, round(scale * max(grey.shape)))
        enlargement = np.array(grey.shape[::-1]) / np.array(small.shape[::-1])
        tensor = torch.tensor(small, device=self.device)[None, None].float() / 255
        permitted = None if allowed is None else torch.from_numpy(allowed).to(self.device)
        for octave, dense in enumerate(self.network.octaves(tensor, self.octaves)):
            logits, size = dense.logits[0, 0], 1 << octave
            if min(logits.shape) < self.network.multiple:
                return
            mask = None if permitted is None else permitted[::size, ::size][: logits.shape[0], : logits.shape[1]]
            points, scores = detect(logits, self.max_keypoints, self.nms_radius, mask=mask)
            keypoints = rescale_points(rescale_points(points, size).cpu().numpy(), enlargement).astype(np.float32)
            yield _Reading(dense.descriptors, points, keypoints, scores.cpu().numpy())

    def _describe(self, found: Sequence[_Reading], best: np.ndarray) -> np.ndarray:
        """Descriptors [K, D] of the keypoints that are kept: their indices [K] among all that were found."""
        descriptors = np.empty((len(best), self.dim), np.float32)
        first = 0
        for reading in found:
            own = (best >= first) & (best < first + len(reading.points))
            points = reading.points[torch.from_numpy(best[own] - first).to(self.device)]
            described = self.network.descriptors_at(reading.maps, points[None])[0]
            descriptors[own] = F.normalize(described, dim=-1).cpu().numpy()
            first += len(reading.points)
        return descriptors


@dataclass(frozen=True)
class _Reading:
    """An image at one scale and octave.

    Attributes:
        maps: of descriptors, as in `Dense`.
        points: [N, 2] found there, in its own pixels.
        keypoints: float32 [N, 2], the same in pixels of the image.
        scores: float32 [N].
    """

    maps: tuple[Tensor, ...]
    points: Tensor
    keypoints: np.ndarray
    scores: np.ndarray


def spread_scores(keypoints: np.ndarray, scores: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Scores [N] lowered by how many keypoints [N, 2] of a higher score lie in the same cell: the best are then all
    over an image of (width, height)."""
    column, row = (keypoints * (CELLS / min(image_size))).astype(int).T
    cell = row * (column.max(initial=0) + 1) + column
    order = np.lexsort((-scores, cell))
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    odds = scores / (1 - scores).clip(1e-6) / (1 + rank) ** CELL_EXPONENT
    return (odds / (1 + odds)).astype(np.float32)


def fold_batch_norms(module: torch.nn.Module) -> torch.nn.Module:
    """Fold each batch normalisation that follows a convolution in a Sequential into it (evaluation only)."""
    for name, child in module.named_children():
        setattr(module, name, fold_batch_norms(child))
    if isinstance(module, torch.nn.Sequential):
        layers = list(module)
        for i in range(len(layers) - 1):
            first, second = layers[i], layers[i + 1]
            if isinstance(first, torch.nn.Conv2d) and isinstance(second, torch.nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(first, second), torch.nn.Identity()
        return torch.nn.Sequential(*layers)
    return module

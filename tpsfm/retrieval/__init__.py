"""Which images look alike: the contract of global descriptors and its registry, `tpsfm.global_descriptors`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from tpsfm.features.base import Extractor, Features
from tpsfm.plugins import plugin, plugin_names


class GlobalDescriptor(ABC):
    """Makes one vector of an image's local features, by which images that look alike are found.

    Attributes:
        name: the name in the registry.
    """

    name: str

    @classmethod
    @abstractmethod
    def create(
        cls, extractor: Extractor, names: Sequence[str], read: Callable[[str], Features], seed: int = 0
    ) -> GlobalDescriptor:
        """The global descriptor for the features of an extractor.

        Args:
            extractor: whose features it will describe.
            names: of the photos at hand, on which it may be fitted.
            read: gives a photo's features by its name.
            seed: of random choices.

        Raises:
            TpsfmError: it does not suit the features, or has too few of them to be fitted.
        """

    @abstractmethod
    def describe(self, features: Features) -> np.ndarray:
        """The vector of an image: float32 [G], unit norm, or all zero where there is nothing to describe."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of all that its output depends on beside the features."""


def global_descriptor_names() -> list[str]:
    """The registered global descriptors' names, sorted."""
    return plugin_names("tpsfm.global_descriptors")


def global_descriptor_class(name: str = "vlad") -> type[GlobalDescriptor]:
    """The class of global descriptors registered as `name`; make one with its `create`.

    Raises:
        TpsfmError: no global descriptor has that name.
    """
    return plugin("tpsfm.global_descriptors", "global descriptor", name)

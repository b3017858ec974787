"""VLAD: local descriptors' residuals to the words of a vocabulary, summed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tpr.vlad import Vocabulary, cluster

from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor, Features
from tpsfm.retrieval import GlobalDescriptor

SAMPLE_PHOTOS, SAMPLE_DESCRIPTORS = 200, 1000  # that a vocabulary is trained on, where an extractor has none of its own


class VLAD(GlobalDescriptor):
    """Vectors of locally aggregated descriptors (Jégou et al., CVPR 2010), as `tpr.vlad.Vocabulary` has them.

    Args:
        vocabulary: with or without a whitening.
    """

    name = "vlad"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @classmethod
    def create(cls, extractor: Extractor, names: Sequence[str], read: Callable[[str], Features], seed: int = 0) -> VLAD:
        """With the extractor's own vocabulary, else one trained on up to `SAMPLE_PHOTOS` photos drawn at random."""
        if extractor.vocabulary is not None:
            return cls(extractor.vocabulary)
        names = sorted(names)
        drawn = sorted(np.random.default_rng(seed).permutation(len(names))[:SAMPLE_PHOTOS])
        samples = [read(names[i]).descriptors[:SAMPLE_DESCRIPTORS] for i in drawn]
        return cls(train_vocabulary(np.concatenate(samples), seed=seed))

    def describe(self, features: Features) -> np.ndarray:
        return self.vocabulary.describe(features.descriptors)

    @property
    def fingerprint(self) -> str:
        return self.vocabulary.digest


def train_vocabulary(samples: np.ndarray, size: int = 64, seed: int = 0) -> Vocabulary:
    """A vocabulary without a whitening, of the centres that `tpr.vlad.cluster` finds.

    Args:
        samples: float32 [M, D], local descriptors of many images; at most 1,000 a cluster are used.
        size: number K of clusters.
        seed: as there.

    Raises:
        TpsfmError: there are fewer samples than clusters.
    """
    if not 1 <= size <= len(samples):
        raise TpsfmError(f"a vocabulary of {size} needs as many descriptors, there are {len(samples)}")
    return Vocabulary(cluster(samples, size, seed, most_each=1000))

"""VLAD: global descriptors of images, for retrieval."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np


def vlad(descriptors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The vector of locally aggregated descriptors of one image.

    Each cluster's sum of residuals is power-normalized (signed square root) and scaled to unit norm, as in
    Arandjelović and Zisserman, 'All about VLAD' (2013), so that no repeated texture outweighs the rest.

    Args:
        descriptors: float32 [N, D].
        centres: float32 [K, D] of the clusters.

    Returns:
        float32 [K * D], unit norm; all zero where there is no descriptor.
    """
    residuals = np.zeros(centres.shape, np.float32)
    if len(descriptors):
        similarity = descriptors @ centres.T - 0.5 * (centres**2).sum(1)
        cluster = similarity.argmax(1)
        members = np.zeros((len(centres), len(descriptors)), np.float32)
        members[cluster, np.arange(len(cluster))] = 1
        residuals = members @ descriptors - members.sum(1, keepdims=True) * centres
    residuals = np.sign(residuals) * np.sqrt(np.abs(residuals))
    return unit(unit(residuals).ravel()).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors scaled to unit norm along the last axis; zero stays zero."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """VLAD with an optional PCA whitening.

    Whitening removes the mean and equalises the variance of the principal directions (Jégou and Chum, 'Negative
    evidences and co-occurrences in image retrieval', 2012).

    Attributes:
        centres: float32 [K, D] of the clusters.
        mean: float32 [K * D], of the VLAD vectors of many photos; None without a whitening.
        whitening: float32 [G, K * D], their principal directions, each over its standard deviation; or None.
    """

    centres: np.ndarray
    mean: np.ndarray | None = None
    whitening: np.ndarray | None = None

    def describe(self, descriptors: np.ndarray) -> np.ndarray:
        """The global descriptor of an image.

        Args:
            descriptors: float32 [N, D].

        Returns:
            float32 [G], or [K * D] without a whitening; unit norm, all zero where there is no descriptor.
        """
        vector = vlad(descriptors, self.centres)
        if self.whitening is None:
            return vector
        if not len(descriptors):
            return np.zeros(len(self.whitening), np.float32)
        return unit(self.whitening @ (vector - self.mean)).astype(np.float32)

    @cached_property
    def digest(self) -> str:
        """A hash of all that its descriptors depend on."""
        arrays = [array for array in (self.centres, self.mean, self.whitening) if array is not None]
        return hashlib.blake2b(b"".join(array.tobytes() for array in arrays), digest_size=16).hexdigest()


def cluster(samples: np.ndarray, size: int, seed: int, most_each: int = 256) -> np.ndarray:
    """Cluster centres by k-means; the same samples and seed give the same.

    Args:
        samples: float32 [M, D], local descriptors of many images, M >= size.
        size: number K of clusters.
        seed: of the choice of samples and first centres.
        most_each: at most so many samples a cluster are used.

    Returns:
        float32 [K, D].
    """
    import faiss

    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": most_each}
    kmeans = faiss.Kmeans(samples.shape[1], size, niter=25, seed=seed, **limits)
    kmeans.train(np.ascontiguousarray(samples, np.float32))
    return np.asarray(kmeans.centroids)


def whitened(centres: np.ndarray, vectors: np.ndarray, size: int) -> Vocabulary:
    """A vocabulary with the whitening that VLAD vectors of many photos tell.

    Args:
        centres: float32 [K, D].
        vectors: float32 [M, K * D], `vlad` of M photos.
        size: number G of directions kept, less than M.
    """
    mean = vectors.mean(0)
    _, spread, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    whitening = directions[:size] * (np.sqrt(len(vectors)) / spread[:size, None])
    return Vocabulary(centres, mean, whitening.astype(np.float32))

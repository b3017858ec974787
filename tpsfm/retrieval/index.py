"""Exact nearest-neighbour search of global descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import faiss
import numpy as np
import torch

from tpsfm.features.store import FeatureStore
from tpsfm.io.workspace import digest
from tpsfm.retrieval import GlobalDescriptor

# Images whose descriptors are searched, and searched for, at a time.
CHUNK = 4096


def key_of_global(store: FeatureStore, name: str, descriptor: GlobalDescriptor) -> str:
    """The key under which the store holds an image's global descriptor where it is up to date."""
    return digest([store.key(name), descriptor.fingerprint])


class Index:
    """Global descriptors by image name, exactly searched by cosine.

    Vectors are kept as float16, 2 G bytes an image (512 for the shipped weights' 256 numbers), and compared in
    float32, `CHUNK` x `CHUNK` images at a time, so a search holds little beside them.

    Attributes:
        names: of the images, in the order in which they were added.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._chunks: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.names)

    @property
    def nbytes(self) -> int:
        """Bytes that the vectors take, the room left in the last chunk included."""
        return sum(chunk.nbytes for chunk in self._chunks)

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Add images.

        Args:
            names: of B images, new to the index.
            vectors: float32 [B, G], unit norm; G the same in every call.
        """
        if len(names) != len(vectors):
            raise ValueError(f"{len(names)} names for {len(vectors)} vectors")
        start = 0
        while start < len(vectors):
            row = len(self.names) % CHUNK
            if row == 0:
                self._chunks.append(np.empty((CHUNK, vectors.shape[1]), np.float16))
            stop = min(len(vectors), start + CHUNK - row)
            self._chunks[-1][row : row + stop - start] = vectors[start:stop]
            self.names.extend(names[start:stop])
            start = stop

    def search(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The images most like each query.

        Args:
            vectors: float32 [Q, G], unit norm.
            k: number of images to find.

        Returns:
            indices: int64 [Q, k'], into `names`, k' = min(k, number of images).
            similarity: float32 [Q, k'], cosine, descending.
        """
        k = min(k, len(self))
        found = [self._search(vectors[start : start + CHUNK], k) for start in range(0, len(vectors), CHUNK)]
        if not found or not k:
            return np.empty((len(vectors), k), np.int64), np.empty((len(vectors), k), np.float32)
        indices, similarity = zip(*found, strict=True)
        return np.concatenate(indices), np.concatenate(similarity)

    def neighbours(self, k: int) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Each image's name with the `k` others most like it, as (name, cosine), the most like first."""
        for start in range(0, len(self), CHUNK):
            indices, similarity = self._search(self._chunk(start), min(k + 1, len(self)))
            for i, (row, values) in enumerate(zip(indices, similarity, strict=True), start):
                others = [(self.names[j], float(s)) for j, s in zip(row, values, strict=True) if j != i]
                yield self.names[i], others[:k]

    def _search(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `search` for at most `CHUNK` queries and k <= number of images."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        best = faiss.ResultHeap(len(vectors), k, keep_max=True)
        for start in range(0, len(self), CHUNK):
            chunk = self._chunk(start)
            similarity, rows = faiss.knn(vectors, chunk, min(k, len(chunk)), metric=faiss.METRIC_INNER_PRODUCT)
            best.add_result(similarity, rows + start)
        best.finalize()
        return best.I, best.D

    def _chunk(self, start: int) -> np.ndarray:
        """Float32 vectors of the images from `start`, a multiple of `CHUNK`, to the next one."""
        half = self._chunks[start // CHUNK][: len(self) - start]
        return torch.from_numpy(half).float().numpy()  # five times as fast as NumPy

"""The contract of local features: what an extractor takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from tpr.vlad import Vocabulary


MAX_KEYPOINTS = 8192  # of an image, where no other limit is given
MAX_SIZE = 1600  # pixels along the longer side, to which larger images are reduced where no other limit is given


@dataclass(frozen=True)
class Features:
    """Local features of one image.

    Attributes:
        keypoints: float32 [N, 2], xy in pixels of the image as decoded; the centre of the top-left pixel
            is (0, 0).
        scores: float32 [N], detection scores, higher is better, in descending order.
        descriptors: float32 [N, D], unit L2 norm; int8 where they are `packed`; where a matcher prepared them, a tensor
            of its type and device.
        image_size: (width, height) in pixels.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    descriptors: np.ndarray
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        return self.keypoints.nbytes + self.scores.nbytes + self.descriptors.nbytes

    @classmethod
    def empty(cls, dim: int, image_size: tuple[int, int]) -> Features:
        """No features at all, of D = `dim`."""
        none = np.zeros((0, 2), np.float32)
        return cls(none, none[:, 0], np.zeros((0, dim), np.float32), image_size)

    def select(self, index: np.ndarray | slice) -> Features:
        """The features at `index` (a boolean mask [N], integers or a slice)."""
        return Features(self.keypoints[index], self.scores[index], self.descriptors[index], self.image_size)

    def packed(self) -> Features:
        """Their descriptors in 8 bits a number, as they are stored and sent: the greatest number of each is ±127.

        The similarity of two descriptors changes by some 0.001. Packed ones stay as they are.
        """
        if self.descriptors.dtype in (np.int8, np.float16):
            return self
        greatest = np.abs(self.descriptors).max(1, keepdims=True, initial=0)
        steps = self.descriptors * (127 / np.maximum(greatest, np.float32(1e-30)))
        return replace(self, descriptors=np.rint(steps).astype(np.int8))

    def unpacked(self) -> Features:
        """Their descriptors as float32 of unit norm; those that an earlier tpsfm packed as float16 keep their values.

        What is packed again after that is the same, byte for byte.
        """
        numbers = self.descriptors.astype(np.float32)
        if self.descriptors.dtype == np.int8:  # sums of squares of small integers are exact, whatever adds them up
            numbers /= np.sqrt(np.maximum(np.einsum("nd,nd->n", numbers, numbers), 1))[:, None]
        return replace(self, descriptors=numbers)


class Extractor(ABC):
    """Detects and describes keypoints; one instance serves many images.

    Attributes:
        name: the name in the registry.
        dim: descriptor dimension D.
        device: where it computes, and where its descriptors are matched.
        ratio: Lowe's ratio that suits its descriptors where the user gives none; None tests nothing.
        map_options: its constructor's options where a map is made: geometric verification removes weak keypoints there.
        preview_options: its constructor's options besides these for small copies, which say how photos are turned.
        rotation_invariant: whether its features match those of photos turned by any angle.
        vocabulary: what makes global descriptors of its local ones, or None where none is shipped.
    """

    name: str
    dim: int
    device: torch.device | str = "cpu"
    ratio: float | None = None
    map_options: ClassVar[dict[str, Any]] = {}
    preview_options: ClassVar[dict[str, Any]] = {}
    rotation_invariant: ClassVar[bool] = False
    vocabulary: Vocabulary | None = None

    @property
    def at_once(self) -> int:
        """Images that are extracted at once, each by a thread of its own: on the CPU, as memory allows."""
        return 16 if str(self.device) == "cpu" else 1

    @abstractmethod
    def extract(self, image: np.ndarray, mask: np.ndarray | None = None) -> Features:
        """Features of one image; several threads may ask at once.

        Args:
            image: uint8 [H, W, 3] RGB or [H, W] grey.
            mask: bool [H, W], False where no keypoint may lie; None allows all.

        Returns:
            At most `max_keypoints` features, in pixels of `image`; none at all is a valid answer.
        """

    @property
    @abstractmethod
    def fingerprint(self) -> dict[str, str | int | float | None]:
        """All that its output depends on (name, weights digest, options), JSON-serializable."""

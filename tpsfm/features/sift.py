"""RootSIFT by OpenCV: the baseline that needs no weights."""

from __future__ import annotations

import cv2
import numpy as np

from tpsfm.features.base import MAX_KEYPOINTS, MAX_SIZE, Extractor, Features
from tpsfm.features.scaling import check_limits, enlarged, reduced

_CONTRAST = 0.02  # COLMAP's peak threshold; OpenCV's own default, 0.04, leaves weakly textured photos bare


class SIFT(Extractor):
    """RootSIFT (Arandjelović and Zisserman, 2012): SIFT descriptors compared by the Hellinger kernel.

    A corner with several dominant orientations gives one keypoint each, at the same place, as in COLMAP.

    Args:
        max_keypoints: the strongest that many are kept.
        max_size: a larger image is shrunk so that its longer side has that many pixels.
        device: accepted as by every extractor; SIFT runs on the CPU.

    Raises:
        TpsfmError: an option is out of range.
    """

    name = "sift"
    ratio = 0.85
    dim = 128
    rotation_invariant = True

    def __init__(self, max_keypoints: int = MAX_KEYPOINTS, max_size: int = MAX_SIZE, device: str = "auto"):
        check_limits(max_keypoints, max_size)
        self.max_keypoints = int(max_keypoints)
        self.max_size = int(max_size)

    def extract(self, image: np.ndarray, mask: np.ndarray | None = None) -> Features:
        grey, allowed = reduced(image, mask, self.max_size)
        allowed = None if allowed is None else allowed.astype(np.uint8)
        # The precise upscale of the first octave frees the keypoints of a constant offset of 0.25 px.
        sift = cv2.SIFT.create(nfeatures=self.max_keypoints, contrastThreshold=_CONTRAST, enable_precise_upscale=True)
        found, descriptors = sift.detectAndCompute(grey, allowed)
        size = grey.shape[::-1]
        if not found:
            return Features.empty(self.dim, image.shape[1::-1])

        scores = np.array([keypoint.response for keypoint in found], np.float32)
        features = Features(np.array([keypoint.pt for keypoint in found], np.float32), scores, _root(descriptors), size)
        features = enlarged(features, image, mask)
        # OpenCV keeps all that tie with the last one it keeps.
        return features.select(np.argsort(-features.scores, kind="stable")[: self.max_keypoints])

    @property
    def fingerprint(self) -> dict[str, str | int | float | None]:
        return {
            "name": self.name,
            "opencv": cv2.__version__,
            "contrast": _CONTRAST,
            "max_keypoints": self.max_keypoints,
            "max_size": self.max_size,
        }


def _root(descriptors: np.ndarray) -> np.ndarray:
    """float32 [N, 128]: the square root of the L1-normalized histograms, which has unit L2 norm."""
    return np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-12)).astype(np.float32)

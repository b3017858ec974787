"""RootSIFT by OpenCV: the baseline that needs no weights."""

from __future__ import annotations

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor, Features

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
    dim = 128

    def __init__(self, max_keypoints: int = 4096, max_size: int = 1600, device: str = "auto"):
        if max_keypoints < 1:
            raise TpsfmError(f"max_keypoints is {max_keypoints}; give at least 1")
        if max_size < 16:
            raise TpsfmError(f"max_size is {max_size} pixels; give at least 16")
        self.max_keypoints = int(max_keypoints)
        self.max_size = int(max_size)

    def extract(self, image: np.ndarray, mask: np.ndarray | None = None) -> Features:
        import cv2

        height, width = image.shape[:2]
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        allowed = None if mask is None else mask.astype(np.uint8)
        if max(width, height) > self.max_size:
            scale = self.max_size / max(width, height)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
            if allowed is not None:
                allowed = cv2.resize(allowed, size, interpolation=cv2.INTER_NEAREST)

        # The precise upscale of the first octave frees the keypoints of a constant offset of 0.25 px.
        sift = cv2.SIFT_create(
            nfeatures=self.max_keypoints, contrastThreshold=_CONTRAST, enable_precise_upscale=True
        )
        found, descriptors = sift.detectAndCompute(grey, allowed)
        if not found:
            nothing = np.zeros((0, 2), np.float32)
            return Features(nothing, nothing[:, 0], np.zeros((0, self.dim), np.float32), (width, height))

        shrink = np.array([width / grey.shape[1], height / grey.shape[0]])
        keypoints = ((cv2.KeyPoint.convert(found) + 0.5) * shrink - 0.5).astype(np.float32)
        scores = np.array([keypoint.response for keypoint in found], np.float32)
        features = Features(keypoints, scores, _root(descriptors), (width, height))
        if mask is not None:  # a shrunk mask is only right to a pixel of the shrunk image
            x, y = np.rint(keypoints).astype(int).clip(0, (width - 1, height - 1)).T
            features = features.select(mask[y, x].astype(bool))
        # OpenCV keeps all that tie with the last one it keeps.
        return features.select(np.argsort(-features.scores, kind="stable")[: self.max_keypoints])

    @property
    def fingerprint(self) -> dict[str, str | int | float | None]:
        import cv2

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

"""ORB by OpenCV behind the extractor contract, to set beside the others."""

from __future__ import annotations

import cv2
import numpy as np

from tpsfm.features import Extractor, Features
from tpsfm.features.scaling import check_limits, enlarged, reduced


class ORB(Extractor):
    """ORB (Rublee et al., ICCV 2011) in OpenCV's settings.

    Its 256 bits become ±1/16, so that the cosine of two descriptors is 1 - 2 · (Hamming distance) / 256.
    """

    name = "orb"
    dim = 256
    ratio = 0.9  # of Euclidean distances, the roots of Hamming's

    def __init__(self, max_keypoints: int = 8192, max_size: int = 1600, device: str = "auto"):
        check_limits(max_keypoints, max_size)
        self.max_keypoints, self.max_size = max_keypoints, max_size

    def extract(self, image: np.ndarray, mask: np.ndarray | None = None) -> Features:
        grey, allowed = reduced(image, mask, self.max_size)
        allowed = None if allowed is None else allowed.astype(np.uint8)
        found, descriptors = cv2.ORB_create(self.max_keypoints).detectAndCompute(grey, allowed)
        if not found:
            return Features.empty(self.dim, image.shape[1::-1])
        scores = np.array([keypoint.response for keypoint in found], np.float32)
        signs = np.unpackbits(descriptors, axis=1).astype(np.float32) / 8 - 1 / 16
        order = np.argsort(-scores, kind="stable")
        features = Features(cv2.KeyPoint.convert(found), scores, signs, grey.shape[::-1])
        return enlarged(features.select(order), image, mask)

    @property
    def fingerprint(self) -> dict[str, str | int | float | None]:
        return {
            "name": self.name,
            "opencv": cv2.__version__,
            "max_keypoints": self.max_keypoints,
            "max_size": self.max_size,
        }

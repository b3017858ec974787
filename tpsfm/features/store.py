"""Features of images in an HDF5 file that survives a crash."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np

from tpsfm.features.base import Features
from tpsfm.io.container import Container

log = logging.getLogger("tpsfm")


class FeatureStore(Container):
    """Local features and global descriptors of images, one group an image, as hloc reads them.

    A group, named by the image's path, holds `keypoints` float32 [N, 2], `scores` float32 [N], `descriptors`
    int8 [D, N] and `image_size` int32 [2]; and `global_descriptor` float32 [G] where there is one. A descriptor over
    its norm is the unit vector that was stored (see `Features.packed`). Stores of before have float16 instead.
    Keys say what a group was made from: a caller that wants another key makes it anew.
    """

    kind = "features"
    command = "tpsfm extract"
    _arrays = ("keypoints", "scores", "descriptors", "image_size")

    def describe(self, extractor: dict[str, Any]) -> None:
        """Note the extractor's fingerprint in the file's attribute `extractor`."""
        text = json.dumps(extractor, sort_keys=True)
        if self._file.attrs.get("extractor") != text:
            self._begin()
            self._file.attrs["extractor"] = text

    @property
    def extractor(self) -> dict[str, Any]:
        """What `describe` noted, empty where nothing is."""
        return json.loads(self._file.attrs.get("extractor", "{}"))

    def names(self) -> list[str]:
        """The images that have features, sorted."""
        return sorted(path for path, record in self._keys if record == "record")

    def key(self, name: str) -> str | None:
        """The key of an image's features, None where there are none."""
        return self._keys.get((name, "record"))

    def write(self, name: str, features: Features, key: str) -> None:
        """Store an image's features, packed, in place of any it had; its global descriptor, made from those, goes too.

        Raises:
            TpsfmError: the file can't be written.
        """
        first = self.names()[:1] if not self._changed else []
        if any(self.read_packed(other).descriptors.dtype == np.float16 for other in first):
            log.warning("%s is of an earlier tpsfm: its descriptors keep their 16 bits, new ones get 8", self.path)
        arrays = (
            np.asarray(features.keypoints, np.float32),
            np.asarray(features.scores, np.float32),
            features.packed().descriptors.T,
            np.asarray(features.image_size, np.int32),
        )
        self._drop(name, "global_record", ["global_descriptor"])
        self._put(name, "record", dict(zip(self._arrays, arrays, strict=True)), key)

    def read(self, name: str) -> Features:
        """An image's features.

        Raises:
            TpsfmError: the store has none, or they are damaged.
        """
        return self.read_packed(name).unpacked()

    def read_packed(self, name: str) -> Features:
        """An image's features with their descriptors as they are stored; raises as `read` does."""
        keypoints, scores, descriptors, size = self._get(name, "record", list(self._arrays))
        return Features(keypoints, scores, np.ascontiguousarray(descriptors.T), (int(size[0]), int(size[1])))

    def count(self, name: str) -> int:
        """How many keypoints an image has; raises as `read` does where it has no features."""
        return self._shape(name, "record", "keypoints")[0]

    def read_keypoints(self, name: str) -> np.ndarray:
        """An image's keypoints, float32 [N, 2]; raises as `read` does."""
        return self._get(name, "record", ["keypoints"])[0]

    def discard(self, name: str) -> None:
        """Take out all of an image, if it is there."""
        self._drop(name, "global_record", ["global_descriptor"])
        self._drop(name, "record", list(self._arrays))

    def global_key(self, name: str) -> str | None:
        """The key of an image's global descriptor, None where there is none."""
        return self._keys.get((name, "global_record"))

    def write_global(self, name: str, vector: np.ndarray, key: str) -> None:
        """Store an image's global descriptor [G] as float32; raises as `write` does."""
        self._put(name, "global_record", {"global_descriptor": np.asarray(vector, np.float32)}, key)

    def read_global(self, name: str) -> np.ndarray:
        """An image's global descriptor, float32 [G]; raises as `read` does."""
        return self._get(name, "global_record", ["global_descriptor"])[0]

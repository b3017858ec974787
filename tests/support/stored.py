"""Features to store, and what happens to a store that is not closed."""

from dataclasses import replace

import h5py
import numpy as np

from tpsfm.features.base import Features
from tpsfm.features.store import FeatureStore


def features(seed: int, count: int = 50, dim: int = 16) -> Features:
    random = np.random.default_rng(seed)
    keypoints = random.uniform(0, 4000, (count, 2)).astype(np.float32)
    scores = np.sort(random.random(count, np.float32))[::-1]
    descriptors = random.normal(size=(count, dim)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Features(keypoints, scores, descriptors, (4000 + seed, 3000))


def assert_same(stored: Features, written: Features) -> None:
    assert np.array_equal(stored.keypoints, written.keypoints)
    assert np.array_equal(stored.scores, written.scores)
    assert stored.image_size == written.image_size
    assert stored.descriptors.dtype == np.float32
    assert stored.descriptors.shape == written.descriptors.shape
    assert np.allclose(stored.descriptors, written.descriptors, atol=5e-3)


def write_features(path, count: int) -> None:
    with FeatureStore(path, "a") as store:
        for seed in range(count):
            store.write(f"{seed:03}.jpg", features(seed), f"key {seed}")


def features_of_before(path) -> None:
    """Make a store one of an earlier tpsfm, which held descriptors as float16."""
    with FeatureStore(path, "a") as store:
        for name in store.names():
            whole = store.read(name)
            store.write(name, replace(whole, descriptors=whole.descriptors.astype(np.float16)), store.key(name))


def leave_unclean(path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["clean"] = False

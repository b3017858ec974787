"""The parts timed by `speed.py`, each in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sized
from itertools import combinations
from pathlib import Path

import cv2
import faiss
import numpy as np
import torch

from pipelines.common import load
from tpsfm.features import Features
from tpsfm.features.store import FeatureStore
from tpsfm.matching.batch import pair_features
from tpsfm.matching.nearest import MutualNearest
from tpsfm.pairs.selection import exhaustive
from tpsfm.parallel import in_parallel
from tpsfm.photos import read_image

EXTRACTION_COLUMNS = {"images/s": ".2f", "keypoints": ".0f", "peak MiB": ".0f"}
MATCHING_COLUMNS = {"pairs/s": ".2f", "peak MiB": ".0f"}
MATCHERS = ("tpsfm", "OpenCV", "faiss", "COLMAP")
IMAGES = 4
STORED_IMAGES, STORED_KEYPOINTS, STORED_DIMENSIONS = 64, 4096, 64


def use_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    faiss.omp_set_num_threads(threads)


def extract(
    method: str, images: list[Path], size: int | tuple[int, int], threads: int, keypoints: int, weights: Path | None
) -> tuple[float, float]:
    """Images a second, decoded and grey, after a warm-up on the first; and keypoints an image.

    Args:
        method: "SIFT" for OpenCV's, else features of the registry.
        size: (width, height), to which images are cropped and scaled, or the longer side.
        keypoints: upper limit.
    """
    use_threads(threads)
    photos = [sized(cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY), size) for path in images]
    if method == "SIFT":
        sift = cv2.SIFT.create(nfeatures=keypoints, contrastThreshold=0.02)  # COLMAP's, so that the limit is reached

        def run(photo: np.ndarray) -> Sized:
            return sift.detectAndCompute(photo, None)[0]

    else:
        extractor = load(method, weights, max_keypoints=keypoints, max_size=max(photos[0].shape))

        def run(photo: np.ndarray) -> Sized:
            return extractor.extract(photo)

    run(photos[0])
    start = time.perf_counter()
    counts = [len(run(photo)) for photo in photos]
    return len(photos) / (time.perf_counter() - start), float(np.mean(counts))


def sized(photo: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """The photo with that longer side, or its middle with that (width, height)."""
    rows, columns = photo.shape
    if isinstance(size, int):
        scale = size / max(rows, columns)
        return cv2.resize(photo, (round(columns * scale), round(rows * scale)), interpolation=cv2.INTER_AREA)
    scale = max(size[0] / columns, size[1] / rows)
    width, height = (int(side / scale) for side in size)
    left, top = (columns - width) // 2, (rows - height) // 2
    return cv2.resize(photo[top : top + height, left : left + width], size, interpolation=cv2.INTER_AREA)


def descriptors(count: int, images: int = IMAGES, seed: int = 0) -> list[np.ndarray]:
    """uint8 [count, 128] by image, of norm 512 as SIFT's: the same points seen a little differently, in any order."""
    rng = np.random.default_rng(seed)
    points = rng.gamma(0.5, size=(count, 128))
    made = []
    for _ in range(images):
        seen = np.abs(points + rng.normal(0, 0.3, points.shape))[rng.permutation(count)]
        made.append(np.minimum(512 * seen / np.linalg.norm(seen, axis=1, keepdims=True), 255).astype(np.uint8))
    return made


def match(method: str, keypoints: int, threads: int) -> float:
    """Pairs a second."""
    use_threads(threads)
    made = descriptors(keypoints)
    seconds, found = MATCH[method](made, threads)
    return len(found) / seconds


def match_by_tpsfm(made: list[np.ndarray], threads: int) -> tuple[float, list[np.ndarray]]:
    """Seconds, reading the features included, and the matches of every pair."""
    with tempfile.TemporaryDirectory() as folder:
        with FeatureStore(Path(folder) / "features.h5", "a") as store:
            for number, values in enumerate(made):
                points = np.zeros((len(values), 2), np.float32)
                store.write(f"{number}", Features(points, points[:, 0], unit(values), (640, 480)), "key")
        pairs = exhaustive([f"{number}" for number in range(len(made))])
        start = time.perf_counter()
        with FeatureStore(Path(folder) / "features.h5") as store:
            matcher = MutualNearest("cpu")
            jobs = pair_features(lambda name: matcher.prepare(store.read(name)), pairs)
            found = dict(in_parallel(matcher.match, jobs))
        seconds = time.perf_counter() - start
        return seconds, [found[pair][0] for pair in pairs]


def match_by_opencv(made: list[np.ndarray], threads: int) -> tuple[float, list[np.ndarray]]:
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)

    def mutual(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.array([(match.queryIdx, match.trainIdx) for match in matcher.match(first, second)])

    return _pair_by_pair(made, mutual)


def match_by_faiss(made: list[np.ndarray], threads: int) -> tuple[float, list[np.ndarray]]:
    def mutual(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        there = faiss.knn(first, second, 1, faiss.METRIC_INNER_PRODUCT)[1][:, 0]
        back = faiss.knn(second, first, 1, faiss.METRIC_INNER_PRODUCT)[1][:, 0]
        rows = np.flatnonzero(back[there] == np.arange(len(first)))
        return np.stack([rows, there[rows]], 1)

    return _pair_by_pair(made, mutual)


def match_by_colmap(made: list[np.ndarray], threads: int) -> tuple[float, list[np.ndarray]]:
    from tpsfm.colmap.baseline import matching_seconds

    return matching_seconds(made, threads)


MATCH = dict(zip(MATCHERS, (match_by_tpsfm, match_by_opencv, match_by_faiss, match_by_colmap), strict=True))


def _pair_by_pair(made: list[np.ndarray], mutual: Callable) -> tuple[float, list[np.ndarray]]:
    ready = [unit(values) for values in made]
    start = time.perf_counter()
    found = [mutual(first, second) for first, second in combinations(ready, 2)]
    return time.perf_counter() - start, found


def unit(values: np.ndarray) -> np.ndarray:
    """float32 [N, 128] of unit norm."""
    values = values.astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def store(what: str) -> dict[str, dict[str, float]]:
    """MB/s of writing or reading features, and MB on the disk: our store, and an .npz an image.

    Reading comes from memory, where the system keeps what was just written, for both.
    """
    rng = np.random.default_rng(0)
    features = []
    for _ in range(STORED_IMAGES):
        points = rng.uniform(0, 1600, (STORED_KEYPOINTS, 2)).astype(np.float32)
        values = rng.normal(size=(STORED_KEYPOINTS, STORED_DIMENSIONS)).astype(np.float32)
        features.append(Features(points, points[:, 0], values, (1600, 1200)))
    bytes_each = STORED_DIMENSIONS + 4 * 3  # descriptor in 8 bits a number; x, y, score
    megabytes = STORED_IMAGES * STORED_KEYPOINTS * bytes_each / 1e6
    found = {}
    for method, (write, read) in {"tpsfm": (_write_store, _read_store), "npz": (_write_npz, _read_npz)}.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds = {"write": _seconds(write, Path(folder), features), "read": _seconds(read, Path(folder))}
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
        found[method] = {"MB/s": megabytes / seconds[what], "MB": size / 1e6}
    return found


def _seconds(function: Callable, *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def _write_store(folder: Path, features: list[Features]) -> None:
    with FeatureStore(folder / "features.h5", "a") as store:
        for number, own in enumerate(features):
            store.write(f"{number}.jpg", own, "key")


def _read_store(folder: Path) -> None:
    with FeatureStore(folder / "features.h5") as store:
        for name in store.names():
            store.read(name)


def _write_npz(folder: Path, features: list[Features]) -> None:
    for number, own in enumerate(features):
        np.savez(folder / f"{number}.npz", **vars(own.packed()))


def _read_npz(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        with np.load(path) as file:
            Features(*(file[name] for name in file)).unpacked()

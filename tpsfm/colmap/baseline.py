"""COLMAP's own features, matcher and chain, to measure ours against."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.colmap.database import open_database, write_camera, write_image
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.mapping import largest_first
from tpsfm.errors import TpsfmError
from tpsfm.pairs.selection import Pair


def reconstruct_sift(
    images: str | Path,
    out: str | Path,
    max_keypoints: int = 8192,
    max_size: int = 1600,
    threads: int = -1,
    seed: int = 0,
    pairs: Sequence[Pair] = (),
) -> tuple[Path, dict[str, float]]:
    """COLMAP's chain as it ships: SIFT on the CPU, matching of all pairs or of some, incremental mapping.

    Args:
        images: folder of photos.
        out: a folder for the database and the map.
        max_keypoints, max_size: as our extractors take them.
        threads: -1 for all cores.
        seed: of every random choice.
        pairs: those to match, of names without spaces; all if left out.

    Returns:
        The folder of the largest model, and seconds by stage: "features", "matches" (with their geometry), "map".

    Raises:
        TpsfmError: no map came out.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    database = out / "database.db"
    marks = [time.perf_counter()]
    extract(database, images, [], max_keypoints, max_size, threads, seed)
    marks.append(time.perf_counter())
    match(database, threads, seed, pairs)
    marks.append(time.perf_counter())
    _, sparse = build_map(database, images, [], out, threads, seed)
    marks.append(time.perf_counter())
    return sparse, dict(zip(("features", "matches", "map"), np.diff(marks).tolist(), strict=True))


def extract(
    database: Path, images: str | Path, names: Sequence[str], max_keypoints: int, max_size: int, threads: int, seed: int
) -> None:
    """SIFT of the photos of those names, or of all for none."""
    pycolmap.set_random_seed(seed)
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = threads
    options.max_image_size = max_size
    options.sift.max_num_features = max_keypoints
    pycolmap.extract_features(database, images, names, extraction_options=options, device=pycolmap.Device.cpu)


def match(database: Path, threads: int, seed: int, pairs: Sequence[Pair] = ()) -> None:
    """Match all photos with each other, or only some pairs, and verify the matches."""
    options: dict[str, Any] = {
        "matching_options": _matching(threads),
        "verification_options": pycolmap.TwoViewGeometryOptions({"ransac": {"random_seed": seed}}),
        "device": pycolmap.Device.cpu,
    }
    if not pairs:
        pycolmap.match_exhaustive(database, **options)
        return
    chosen = database.with_name("pairs.txt")
    chosen.write_text("".join(f"{first} {second}\n" for first, second in pairs))
    listed = pycolmap.ImportedPairingOptions({"match_list_path": str(chosen)})
    pycolmap.match_image_pairs(database, pairing_options=listed, **options)


def build_map(
    database: Path, images: str | Path, names: Sequence[str], out: Path, threads: int, seed: int
) -> tuple[pycolmap.Reconstruction, Path]:
    """Map the photos of those names, or all for none.

    Returns:
        COLMAP's largest reconstruction, and the folder it was written to.

    Raises:
        TpsfmError: no map came out.
    """
    options = {"num_threads": threads, "random_seed": seed, "image_names": list(names)}
    options["mapper"] = {"num_threads": threads, "random_seed": seed}
    models = largest_first(
        pycolmap.incremental_mapping(database, images, out, options=pycolmap.IncrementalPipelineOptions(options))
    )
    if not models:
        raise TpsfmError(f"COLMAP's chain made no map of '{images}'")
    sparse = out / "sparse"
    sparse.mkdir(exist_ok=True)
    models[0].write_binary(sparse)
    return models[0], sparse


def matching_seconds(descriptors: Sequence[np.ndarray], threads: int = -1) -> tuple[float, list[np.ndarray]]:
    """The time COLMAP takes to match every pair of images on the CPU, by mutual nearest neighbours without a ratio.

    Args:
        descriptors: uint8 [N, 128] by image, of norm 512 as SIFT's.
        threads: -1 for all cores.

    Returns:
        Seconds, reading and writing its database included, and each pair's matches uint32 [M, 2], the pairs in the
        order (0, 1), (0, 2), ..., (1, 2), ...
    """
    options = _matching(threads)
    options.skip_geometric_verification = True
    options.sift.max_ratio = 1.0
    options.sift.max_distance = 2.0  # above any angle
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "database.db"
        with open_database(path, create=True) as db:
            camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 1000.0, 1000, 1000)
            write_camera(db, camera)
            for number, values in enumerate(descriptors, 1):
                write_image(db, pycolmap.Image(name=str(number), camera_id=1, image_id=number))
                db.write_keypoints(number, np.zeros((len(values), 2), np.float32))
                kind = pycolmap.FeatureExtractorType.SIFT
                db.write_descriptors(number, pycolmap.FeatureDescriptors(kind, values))
        start = time.perf_counter()
        pycolmap.match_exhaustive(path, matching_options=options, device=pycolmap.Device.cpu)
        seconds = time.perf_counter() - start
        with open_database(path) as db:
            numbers = combinations(range(1, len(descriptors) + 1), 2)
            return seconds, [db.read_matches(first, second) for first, second in numbers]


def _matching(threads: int) -> pycolmap.FeatureMatchingOptions:
    options = pycolmap.FeatureMatchingOptions()
    options.num_threads = threads
    return options

"""COLMAP's own features, matcher and chain, to measure ours against."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from tpsfm.colmap.database import open_database
from tpsfm.colmap.engine import pycolmap
from tpsfm.colmap.mapping import _largest_first
from tpsfm.errors import TpsfmError


def reconstruct_sift(
    images: str | Path,
    out: str | Path,
    max_keypoints: int = 8192,
    max_size: int = 1600,
    threads: int = -1,
    seed: int = 0,
) -> tuple[Path, dict[str, float]]:
    """COLMAP's chain as it ships: SIFT on the CPU, exhaustive matching, incremental mapping.

    Args:
        images: folder of photos.
        out: a folder for the database and the map.
        max_keypoints, max_size: as our extractors take them.
        threads: -1 for all cores.
        seed: of every random choice.

    Returns:
        The folder of the largest model, and seconds by stage: "features", "matches" (with their geometry), "map".

    Raises:
        TpsfmError: no map came out.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    database = out / "database.db"
    pycolmap.set_random_seed(seed)
    marks = [time.perf_counter()]
    pycolmap.extract_features(
        database, images, extraction_options=_extraction(max_keypoints, max_size, threads), device=pycolmap.Device.cpu
    )
    marks.append(time.perf_counter())
    pycolmap.match_exhaustive(
        database,
        matching_options=_matching(threads),
        verification_options={"ransac": {"random_seed": seed}},
        device=pycolmap.Device.cpu,
    )
    marks.append(time.perf_counter())
    options = {"num_threads": threads, "random_seed": seed, "mapper": {"num_threads": threads, "random_seed": seed}}
    models = _largest_first(pycolmap.incremental_mapping(database, images, out, options=options))
    marks.append(time.perf_counter())
    if not models:
        raise TpsfmError("COLMAP's chain made no map of these photos")
    sparse = out / "sparse"
    sparse.mkdir()
    models[0].write_binary(sparse)
    return sparse, dict(zip(("features", "matches", "map"), np.diff(marks).tolist(), strict=True))


def matching_seconds(descriptors: Sequence[np.ndarray], threads: int = -1) -> tuple[float, list[np.ndarray]]:
    """How long COLMAP takes to match every pair of images on the CPU, by mutual nearest neighbours without a ratio.

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
            rig = pycolmap.Rig(rig_id=1)
            rig.add_ref_sensor(camera.sensor_id)
            db.write_camera(camera, use_camera_id=True)
            db.write_rig(rig, use_rig_id=True)
            for number, values in enumerate(descriptors, 1):
                image = pycolmap.Image(name=str(number), camera_id=1, image_id=number)
                frame = pycolmap.Frame(frame_id=number, rig_id=1)
                frame.add_data_id(image.data_id)
                db.write_image(image, use_image_id=True)
                db.write_frame(frame, use_frame_id=True)
                db.write_keypoints(number, np.zeros((len(values), 2), np.float32))
                kind = pycolmap.FeatureExtractorType.SIFT
                db.write_descriptors(number, pycolmap.FeatureDescriptors(kind, values))
        start = time.perf_counter()
        pycolmap.match_exhaustive(path, matching_options=options, device=pycolmap.Device.cpu)
        seconds = time.perf_counter() - start
        with open_database(path) as db:
            numbers = combinations(range(1, len(descriptors) + 1), 2)
            return seconds, [db.read_matches(first, second) for first, second in numbers]


def _extraction(max_keypoints: int, max_size: int, threads: int):
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = threads
    options.max_image_size = max_size
    options.sift.max_num_features = max_keypoints
    return options


def _matching(threads: int):
    options = pycolmap.FeatureMatchingOptions()
    options.num_threads = threads
    return options

"""Which matches agree with one motion of the camera."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from tpsfm.colmap.database import open_database
from tpsfm.colmap.loading import pycolmap
from tpsfm.parallel import in_order

_CACHED_IMAGES = 256  # how many images' keypoints are kept in memory
_MAX_TRIALS = 3000  # of RANSAC; COLMAP's 10,000 spend minutes on pairs that show nothing in common
_OTHER_ID = 1_000_000_000  # beyond any camera's id
_NO_GEOMETRY = {
    int(pycolmap.TwoViewGeometryConfiguration.UNDEFINED),
    int(pycolmap.TwoViewGeometryConfiguration.DEGENERATE),
}


def verify_matches(
    path: str | Path,
    seed: int = 0,
    threads: int = -1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[tuple[str, str], int]:
    """Estimate the two-view geometry of every pair with matches and write it to the database.

    All or nothing: the geometries appear in the database together at the end, in place of older ones. Each
    pair's random choices depend on the seed alone, not on the other pairs or the threads.

    Args:
        path: the database.
        seed: of RANSAC.
        threads: how many to use; -1 for all cores.
        progress: called with (pairs done, pairs in all).

    Returns:
        The number of inliers of every pair of names; 0 where no geometry was found.

    Raises:
        TpsfmError: the database is missing or damaged.
    """
    inliers = {}
    with open_database(path) as db, pycolmap.DatabaseTransaction(db):
        db.clear_two_view_geometries()
        images = {image.image_id: image for image in db.read_all_images()}
        pairs = [pycolmap.pair_id_to_image_pair(pair_id) for pair_id in db.read_num_matches()[0]]
        try:
            for first, second, geometry in two_view_geometries(db, images, pairs, seed, threads):
                db.write_two_view_geometry(first, second, geometry)
                inliers[images[first].name, images[second].name] = count_inliers(geometry)
                if progress is not None:
                    progress(len(inliers), len(pairs))
        except BaseException:  # COLMAP's transaction commits even then
            db.clear_two_view_geometries()
            raise
    return inliers


def verified_inliers(path: str | Path) -> dict[tuple[str, str], int]:
    """What `verify_matches` returned, read again from the database."""
    with open_database(path) as db:
        names = {image.image_id: image.name for image in db.read_all_images()}
        pairs = map(pycolmap.pair_id_to_image_pair, db.read_num_matches()[0])
        return {
            (names[first], names[second]): count_inliers(db.read_two_view_geometry(first, second))
            for first, second in pairs
        }


def count_inliers(geometry) -> int:
    """How many matches agree with a two-view geometry; 0 where it is none."""
    return 0 if geometry.config in _NO_GEOMETRY else len(geometry.inlier_matches)


def two_view_geometries(db, images: dict, pairs: list[tuple[int, int]], seed: int, threads: int) -> Iterator[tuple]:
    """(image id, image id, two-view geometry) of each pair of image ids with matches in a database, in order."""
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = seed
    options.ransac.max_num_trials = _MAX_TRIALS
    threads = threads if threads > 0 else os.cpu_count() or 1
    cameras = {camera.camera_id: camera for camera in db.read_all_cameras()}
    # Where one camera of unknown focal length took both photos, COLMAP solves for that focal length too: three
    # times slower, and no more accurate at the end. Under another id it takes the fundamental matrix.
    others = {camera_id: _renamed(camera) for camera_id, camera in cameras.items()}

    @lru_cache(_CACHED_IMAGES)
    def points(image_id: int) -> np.ndarray:
        return db.read_keypoints(image_id)[:, :2].astype(np.float64)

    def arguments(first: int, second: int) -> tuple:
        camera0, camera1 = cameras[images[first].camera_id], others[images[second].camera_id]
        return camera0, points(first), camera1, points(second), db.read_matches(first, second), options

    jobs = ((pair, arguments(*pair)) for pair in pairs)
    with ThreadPoolExecutor(threads) as pool:
        estimate = pycolmap.estimate_two_view_geometry  # releases the GIL
        for (first, second), geometry in in_order(pool, estimate, jobs, 4 * threads):
            yield first, second, geometry


def _renamed(camera):
    return pycolmap.Camera({**camera.todict(), "camera_id": camera.camera_id + _OTHER_ID})

"""Which matches agree with one motion of the camera."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.cluster import Cluster
from tpsfm.colmap.convention import from_colmap
from tpsfm.colmap.database import open_database
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.pair_table import NO_GEOMETRY, Pair, PairTable
from tpsfm.matching.overlay import MatchedPair, Overlay
from tpsfm.matching.screening import least_inliers, may_agree
from tpsfm.parallel import in_parallel

_CACHED_IMAGES = 256  # how many images' keypoints are kept in memory
_MAX_TRIALS = 3000  # of RANSAC; COLMAP's 10,000 spend minutes on pairs that show nothing in common
_MIN_TRIALS = 30  # COLMAP's 100 take twice as long for a pair of right matches, and find the same
_MOST = 500  # matches of a pair that a geometry is estimated from, where it has twice as many: then all are asked
_MAX_ERROR = 4.0  # pixels of an inlier, COLMAP's
_METHOD = 3  # counts changes after which pairs are verified again
_OTHER_ID = 1_000_000_000  # beyond any camera's id


def verify_matches(
    path: str | Path,
    seed: int = 0,
    threads: int = -1,
    progress: Callable[[int, int], None] | None = None,
    overlay: Overlay | None = None,
    cluster: Cluster | None = None,
) -> tuple[int, dict[Pair, int]]:
    """Estimate the two-view geometry of every pair with matches and write it to the database.

    A pair is screened first, which takes a tenth of the time, and the more matches it has, the more of them must agree
    (see `tpsfm.matching.screening`). A geometry that is there already from the same matches, cameras, overlay and seed
    stays; each new one is in the file as soon as it is made, so a process that is killed loses none. A pair's random
    choices depend on the seed alone, not on the other pairs or the threads.

    Args:
        path: a database with images and, by a `PairTable`, matches.
        seed: of RANSAC.
        threads: how many to use; -1 for all cores.
        progress: called with (pairs done, pairs in all) at first and after each pair.
        overlay: what lies over the photos; its matches take no part.
        cluster: whose workers do it instead of threads; the result is the same.

    Returns:
        How many pairs were verified now, and the number of inliers of every pair; 0 where no geometry was found.

    Raises:
        TpsfmError: the database is missing or damaged.
    """
    with PairTable(path) as table:
        matched = table.matched()
    with open_database(path) as db:
        images = {image.image_id: image for image in db.read_all_images()}
        lenses = {camera.camera_id: _lens(camera) for camera in db.read_all_cameras()}
    lens_of = {image.name: lenses[image.camera_id] for image in images.values()}
    common = (seed, overlay.digest) if overlay else (seed,)
    with PairTable(path) as table:
        made_of = {(a, b): (key, lens_of[a], lens_of[b], *common, _METHOD) for (a, b), key in matched.items()}
        todo = table.to_verify({pair: _digest(*parts) for pair, parts in made_of.items()})
        total = len(table.counts()[0])
    report = progress or (lambda done, total: None)
    report(total - len(todo), total)
    with open_database(path) as db:
        geometries = two_view_geometries(db, images, todo, seed, threads, overlay, cluster)
        for done, (first, second, geometry) in enumerate(geometries, total - len(todo) + 1):
            db.write_two_view_geometry(first, second, geometry)
            report(done, total)
    return len(todo), verified_inliers(path)


def verified_inliers(path: str | Path) -> dict[Pair, int]:
    """The number of verified matches of every pair of names that has matches."""
    with PairTable(path) as table:
        return table.counts()[1]


def verified_matches(path: str | Path, names: Container[str]) -> dict[Pair, np.ndarray]:
    """The verified matches, uint32 [M, 2], of each pair of such names that has some."""
    pairs = [pair for pair, count in verified_inliers(path).items() if count and all(name in names for name in pair)]
    with open_database(path) as db:
        ids = {image.name: image.image_id for image in db.read_all_images()}
        return {(a, b): db.read_two_view_geometry(ids[a], ids[b]).inlier_matches for a, b in pairs}


def count_inliers(geometry: Any) -> int:
    """How many matches agree with a two-view geometry; 0 where it is none."""
    return 0 if int(geometry.config) in NO_GEOMETRY else len(geometry.inlier_matches)


def two_view_geometries(
    db: Any,
    images: dict[int, Any],
    pairs: list[tuple[int, int]],
    seed: int,
    threads: int,
    overlay: Overlay | None = None,
    cluster: Cluster | None = None,
) -> Iterator[tuple[int, int, Any]]:
    """(image id, image id, two-view geometry) of each pair of image ids with matches in a database, in order."""
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
        matches = db.read_matches(first, second)
        if overlay:
            ends = (from_colmap(points(i)[rows]) for i, rows in zip((first, second), matches.T, strict=True))
            pair = MatchedPair((camera0.width, camera0.height), *ends)
            matches = matches[overlay.without(pair, (camera1.width, camera1.height))]
        return camera0, points(first), camera1, points(second), matches, seed

    jobs = ((pair, arguments(*pair)) for pair in pairs)
    if cluster is None:
        geometries = in_parallel(_estimate, jobs, threads, 4 * threads)
    else:
        geometries = cluster.run(_estimate_all, jobs)
    for (first, second), geometry in geometries:
        yield first, second, geometry


def _estimate(
    camera0: Any, points0: np.ndarray, camera1: Any, points1: np.ndarray, matches: np.ndarray, seed: int
) -> Any:
    """The two-view geometry of two images from their cameras, keypoints and matches; the GIL is released."""
    sizes = (camera0.width, camera0.height), (camera1.width, camera1.height)
    straight = not any("FISHEYE" in camera.model.name for camera in (camera0, camera1))
    if straight and not may_agree(points0, points1, matches, sizes, seed=seed):
        return pycolmap.TwoViewGeometry({"config": pycolmap.TwoViewGeometryConfiguration.DEGENERATE})
    some = matches
    if len(matches) >= 2 * _MOST:
        some = matches[np.random.default_rng(seed).permutation(len(matches))[:_MOST]]
    options = pycolmap.TwoViewGeometryOptions()
    options.min_num_inliers = least_inliers(len(some), sizes)
    options.ransac.max_error = _MAX_ERROR
    options.ransac.random_seed = seed
    options.ransac.min_num_trials, options.ransac.max_num_trials = _MIN_TRIALS, _MAX_TRIALS
    geometry = pycolmap.estimate_two_view_geometry(camera0, points0, camera1, points1, some, options)
    if len(some) < len(matches) and int(geometry.config) not in NO_GEOMETRY:
        agree = _agreeing(geometry, (camera0, camera1), points0[matches[:, 0]], points1[matches[:, 1]])
        geometry.inlier_matches = matches[agree]
    return geometry


def _agreeing(geometry: Any, cameras: tuple, points0: np.ndarray, points1: np.ndarray) -> np.ndarray:
    """Which matches, keypoints [M, 2] of each image, are inliers of a geometry's E, F or H, whichever has the most."""
    errors = []
    if geometry.E is not None:
        rays0, rays1 = (np.asarray(c.cam_from_img(xy)) for c, xy in zip(cameras, (points0, points1), strict=True))
        focal = sum(camera.mean_focal_length() for camera in cameras) / 2
        errors.append(focal * np.sqrt(pycolmap.compute_squared_sampson_error(rays0, rays1, geometry.E)))
    elif geometry.F is not None:
        errors.append(np.sqrt(pycolmap.compute_squared_sampson_error(points0, points1, geometry.F)))
    if geometry.H is not None:
        moved = np.column_stack([points0, np.ones(len(points0))]) @ geometry.H.T
        errors.append(np.linalg.norm(moved[:, :2] / moved[:, 2:] - points1, axis=1))
    return max((error <= _MAX_ERROR for error in errors), key=np.count_nonzero)


def _estimate_all(pairs: list[tuple]) -> list:
    return [_estimate(*pair) for pair in pairs]


def _renamed(camera: Any) -> Any:
    return pycolmap.Camera({**camera.todict(), "camera_id": camera.camera_id + _OTHER_ID})


def _lens(camera: Any) -> tuple:
    """All of a camera but its id, which counts other photos too."""
    return camera.model.name, camera.width, camera.height, camera.params.tolist(), camera.has_prior_focal_length


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

"""Photos taken from one point: a rotation of the camera explains their matches, which then say nothing of depth.

A mapper that is given such photos finds a baseline all the same, in the noise and in focal lengths that are free: its
map may have many points and small errors. So the matches are asked, not the map.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.colmap.database import open_database
from tpsfm.colmap.loading import pycolmap

MIN_INLIERS = 50  # of a pair that is judged: of 1,000 random matches some 30 agree on a geometry
MAX_MATCHES = 200  # of a pair that are looked at
JUDGED = 4  # pairs of a photo, from that with the most inliers to that with the fewest
SAMPLE = 40  # photos of a model whose pairs are judged
ROTATED = 0.8  # share of a pair's matches that a rotation explains, from which on it was taken from one point
TOLERANCE = 0.003  # of the longer side, by which a match may miss the rotation; 2 pixels at least
KNOWN_FOCAL = np.geomspace(0.85, 1.18, 5)  # of the focal length that EXIF tells, those that are tried
ANY_FOCAL = np.geomspace(0.5, 2.0, 17)  # of the longer side, where none is known
ROUNDS = 8  # of reweighting


def rotation_share(
    first: np.ndarray, second: np.ndarray, size0: tuple[int, int], size1: tuple[int, int], focals: np.ndarray
) -> float:
    """The largest share of matches that one rotation of the camera explains, at any of some focal lengths.

    The rotation is fitted to the rays by weighted least squares (Umeyama, PAMI 1991) with Cauchy weights.

    Args:
        first, second: [M, 2], the keypoints of each match, in pixels.
        size0, size1: (width, height) of the images.
        focals: [F, 2], those of the two that are tried, pixels.
    """
    if not len(first):
        return 0.0
    tolerance = max(TOLERANCE * max(size1), 2.0)
    rays0, rays1 = _rays(first, size0, focals[:, 0]), _rays(second, size1, focals[:, 1])
    weights = np.ones(rays0.shape[:2])
    for _ in range(ROUNDS):
        u, _, vt = np.linalg.svd((rays1 * weights[..., None]).transpose(0, 2, 1) @ rays0)
        u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
        errors = focals[:, 1:] * np.linalg.norm(rays1 - rays0 @ (u @ vt).transpose(0, 2, 1), axis=2)
        weights = 1 / (1 + (errors / tolerance) ** 2)
    return float((errors < tolerance).mean(1).max())


def _rays(points: np.ndarray, size: tuple[int, int], focals: np.ndarray) -> np.ndarray:
    """Unit vectors [F, M, 3] of pinhole cameras of some focal lengths [F] whose axis meets the image's middle."""
    plane = (points - np.array(size) / 2) / focals[:, None, None]
    rays = np.concatenate([plane, np.ones((*plane.shape[:2], 1))], 2)
    return rays / np.linalg.norm(rays, axis=2, keepdims=True)


def are_from_one_point(database: str | Path, names: Collection[str] | None = None) -> bool:
    """Whether photos were all taken from one point: a rotation explains most pairs of them, near and far ones.

    Args:
        database: with verified pairs.
        names: of the photos; all if left out.
    """
    with open_database(database) as db:
        pairs = _Pairs(db, names)
        some = list(pairs.judged.values())
        some = [some[i] for i in np.unique(np.linspace(0, len(some) - 1, SAMPLE).astype(int))] if some else []
        rotated = [pairs.is_rotated(pair) for pair in {pair for own in some for pair in own}]
    return 2 * sum(rotated) > len(rotated)


def photos_from_one_point(database: str | Path, names: Collection[str], judged: int = JUDGED) -> dict[str, str]:
    """Photos that were taken from the point of others: a rotation explains all of their pairs that are judged.

    Args:
        database: with verified pairs.
        names: of the photos to judge.
        judged: pairs of each at most, from that with the most inliers to that with the fewest; 1 is the former alone.

    Returns:
        By name, the other photo of the pair with the most inliers; only photos of which it is true.

    Raises:
        TpsfmError: the database is missing or damaged.
    """
    with open_database(database) as db:
        pairs = _Pairs(db)
        return {
            pairs.names[i]: pairs.names[sum(own[0]) - i]
            for i, own in pairs.judged.items()
            if pairs.names[i] in names and all(pairs.is_rotated(pair) for pair in own[:judged])
        }


class _Pairs:
    """The verified pairs of a database by which photos are judged.

    Attributes:
        names: by image id.
        judged: by image id, up to `JUDGED` of its pairs, the one with the most inliers first; none of photos that a rig
            took at the same moment.
    """

    def __init__(self, db: Any, names: Collection[str] | None = None) -> None:
        images = [image for image in db.read_all_images() if names is None or image.name in names]
        cameras = {camera.camera_id: camera for camera in db.read_all_cameras()}
        self.names = {image.image_id: image.name for image in images}
        self._camera = {image.image_id: cameras[image.camera_id] for image in images}
        self._db = db
        self.is_rotated = cache(self._is_rotated)
        moment = {data.id: frame.frame_id for frame in db.read_all_frames() for data in frame.data_ids}
        pair_ids, counts = db.read_two_view_geometry_num_inliers()
        of_image: dict[int, list[tuple[int, int]]] = {}
        for row in np.argsort(-np.asarray(counts, np.int64), kind="stable"):
            pair = pycolmap.pair_id_to_image_pair(pair_ids[row])
            together = moment.get(pair[0], -pair[0]) == moment.get(pair[1], -pair[1])
            if counts[row] >= MIN_INLIERS and self.names.keys() >= set(pair) and not together:
                for image_id in pair:
                    of_image.setdefault(image_id, []).append(pair)
        self.judged = {
            i: [pairs[row] for row in np.unique(np.linspace(0, len(pairs) - 1, JUDGED).astype(int))]
            for i, pairs in of_image.items()
        }

    def _is_rotated(self, pair: tuple[int, int]) -> bool:
        matches = self._db.read_two_view_geometry(*pair).inlier_matches
        matches = matches[np.linspace(0, len(matches) - 1, min(len(matches), MAX_MATCHES)).astype(int)]
        ends = zip(pair, matches.T, strict=True)
        first, second = (self._db.read_keypoints(i)[rows, :2].astype(float) for i, rows in ends)
        cameras = [self._camera[i] for i in pair]
        known = all(camera.has_prior_focal_length for camera in cameras)
        scales = KNOWN_FOCAL if known else ANY_FOCAL
        units = [camera.mean_focal_length() if known else max(camera.width, camera.height) for camera in cameras]
        size0, size1 = ((camera.width, camera.height) for camera in cameras)
        return rotation_share(first, second, size0, size1, np.outer(scales, units)) > ROTATED

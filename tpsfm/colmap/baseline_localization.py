"""COLMAP's own features and matches of photos with a map of them, to measure ours against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tpsfm.colmap.baseline import build_map, extract, match
from tpsfm.colmap.convention import from_colmap
from tpsfm.colmap.database import open_database
from tpsfm.colmap.loading import pycolmap


def sift_map_and_matches(
    images: str | Path,
    mapped: Sequence[str],
    queries: Sequence[str],
    out: str | Path,
    max_keypoints: int = 8192,
    max_size: int = 1600,
    threads: int = -1,
    seed: int = 0,
) -> tuple[Path, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Map some photos by COLMAP's chain as it ships, and match others with that map.

    A query's matches are those that agree with a two-view geometry; each of its keypoints takes the point that most
    of the map's photos gave it.

    Args:
        images: folder of all the photos.
        mapped, queries: their names below it.
        out: a folder for the database and the map.
        max_keypoints, max_size, threads, seed: as in `reconstruct_sift`.

    Returns:
        The folder of the largest model; for each query keypoints float64 [M, 2] in tpsfm's pixels, and the map's
        points float64 [M, 3].

    Raises:
        TpsfmError: no map came out.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    database = out / "database.db"
    extract(database, images, [*mapped, *queries], max_keypoints, max_size, threads, seed)
    match(database, threads, seed)
    model, sparse = build_map(database, images, mapped, out, threads, seed)
    with open_database(database) as db:
        ids = {image.name: image.image_id for image in db.read_all_images()}
        return sparse, {name: _lifted(db, model, ids[name]) for name in queries}


def _lifted(db: pycolmap.Database, model: pycolmap.Reconstruction, query: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [M, 2] of a query and the model's points [M, 3] that its matches lead to."""
    votes: dict[int, Counter] = {}
    for image in model.reg_image_ids():
        geometry = db.read_two_view_geometry(query, image)
        points = model.image(image).points2D
        for keypoint, other in geometry.inlier_matches:
            if points[other].has_point3D():
                votes.setdefault(int(keypoint), Counter())[points[other].point3D_id] += 1
    rows = sorted(votes)
    pixels = from_colmap(db.read_keypoints(query)[rows, :2].astype(np.float64))
    seen = [model.point3D(votes[row].most_common(1)[0][0]).xyz for row in rows]
    return pixels, np.array(seen, float).reshape(-1, 3)

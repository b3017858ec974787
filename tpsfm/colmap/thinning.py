"""A part of the verified matches, which gives the same cameras as all of them in a fraction of the time.

A mapper adjusts all cameras and points many times while it adds photos, and that takes most of its time. Poses are as
good with a few hundred points a photo; `completion` makes the other points once the cameras stand.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from tpsfm.colmap.database import remove_database
from tpsfm.colmap.loading import pycolmap
from tpsfm.errors import TpsfmError

MATCHES = 80  # of a pair that are chosen; those of its keypoints that other pairs chose come to them
_ROUNDS = 3  # from neighbour to neighbour, in which the keypoints of a track agree on its rank


def thin_matches(database: Path, output: Path, most: int = MATCHES, seed: int = 0) -> None:
    """Copy a database with fewer inliers in its two-view geometries.

    Each keypoint draws a rank at random, and takes the best of those it is matched with, so that those of a track are
    kept or left together. A pair chooses its matches of best rank; a match stays where all pairs together chose both
    of its keypoints.

    Args:
        database: after `verify_matches`.
        output: the copy, in place of any that is there.
        most: inliers that a pair chooses.
        seed: of the ranks.

    Raises:
        TpsfmError: the database is missing or damaged, or `output` can't be written.
    """
    remove_database(output)
    try:
        shutil.copy(database, output)
        with closing(sqlite3.connect(output)) as connection, connection:
            _thin(connection, most, np.random.default_rng(seed))
    except FileNotFoundError:
        raise TpsfmError(f"no database '{database}'; run 'tpsfm match'") from None
    except (OSError, sqlite3.DatabaseError) as error:
        raise TpsfmError(f"can't copy the database '{database}' to '{output}': {error}") from None


def _thin(connection: sqlite3.Connection, most: int, random: np.random.Generator) -> None:
    begin, count = {}, 0
    for image_id, rows in connection.execute("SELECT image_id, rows FROM keypoints ORDER BY image_id"):
        begin[image_id], count = count, count + rows
    pairs, matches = [], []
    for pair_id, data in connection.execute("SELECT pair_id, data FROM two_view_geometries WHERE rows > 0"):
        offsets = np.array([begin[image_id] for image_id in pycolmap.pair_id_to_image_pair(pair_id)], np.int32)
        pairs.append((pair_id, offsets))
        matches.append(np.frombuffer(data, np.uint32).reshape(-1, 2).astype(np.int32) + offsets)
    if not pairs:
        return
    ends = np.cumsum([len(indices) for indices in matches])
    first, second = np.concatenate(matches).T.copy()
    rank = random.permutation(count).astype(np.int32)
    for _ in range(_ROUNDS):
        np.minimum.at(rank, first, rank[second])
        np.minimum.at(rank, second, rank[first])
    chosen = np.zeros(count, bool)
    for end, indices in zip(ends, matches, strict=True):
        best = rank[first[end - len(indices) : end]]
        if len(best) > most:
            indices = indices[np.argpartition(best, most)[:most]]
        chosen[indices] = True
    for (pair_id, offsets), indices in zip(pairs, matches, strict=True):
        kept = (indices[chosen[indices].all(1)] - offsets).astype(np.uint32)
        connection.execute(
            "UPDATE two_view_geometries SET rows = ?, data = ? WHERE pair_id = ?", (len(kept), kept.tobytes(), pair_id)
        )

"""Image pairs in COLMAP's database: matches and two-view geometries, each with the key of what it was made from.

COLMAP's own tables are as COLMAP writes them. Two are added, which it passes over: `tpsfm_pairs` tells the images and
keys of each pair, `tpsfm_images` the key of the images, cameras and keypoints.

Python's SQLite and the one inside pycolmap may not have the file open at the same time: where one closes it, the locks
of the other go (sqlite.org/howtocorrupt.html, 2.2.1). So a `PairTable` is closed before `open_database` is called.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from tpsfm.colmap.database import open_database, remove_database
from tpsfm.colmap.loading import pycolmap
from tpsfm.errors import TpsfmError

Pair = tuple[str, str]

COMMIT_EVERY = 1.0  # seconds of matching that a killed process loses at most
_PAIR_TABLES = ("matches", "two_view_geometries", "tpsfm_pairs")
_TABLES = """
CREATE TABLE IF NOT EXISTS tpsfm_pairs
    (pair_id INTEGER PRIMARY KEY, name0 TEXT, name1 TEXT, matched TEXT, verified TEXT);
CREATE TABLE IF NOT EXISTS tpsfm_images (key TEXT);
"""
NO_GEOMETRY = {
    int(pycolmap.TwoViewGeometryConfiguration.UNDEFINED),
    int(pycolmap.TwoViewGeometryConfiguration.DEGENERATE),
}

log = logging.getLogger("tpsfm")


class PairTable:
    """The pairs of a run, in COLMAP's database; image ids count from 1 in the order of the sorted names.

    So equal photos give equal ids, whatever photos there were before. Matches are committed every second.

    Args:
        path: the database.
        create: make it where it is missing or damaged, instead of raising.

    Raises:
        TpsfmError: it is missing, damaged or can't be written.
    """

    def __init__(self, path: str | Path, create: bool = False) -> None:
        self.path = Path(path)
        self._ids: dict[str, int] = {}
        self._begun: float | None = None  # when the open transaction was
        if not create and not self.path.is_file():
            raise TpsfmError(f"no database '{path}'; run 'tpsfm match'")
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # no room, no permission, locked
                raise TpsfmError(f"can't open the database '{path}': {error}; mend that and run again") from None
            if not create:
                raise TpsfmError(f"the database '{path}' is damaged ({error}); delete it and run again") from None
            log.warning("%s was damaged (%s): its pairs are matched again", path, error)
            remove_database(self.path)
            self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            with open_database(self.path, create=True):
                pass
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if sound != "ok" or not tables >= {"matches", "two_view_geometries", "images"}:
                raise sqlite3.DatabaseError(sound if sound != "ok" else "no tables of COLMAP")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLES)
        except BaseException:
            connection.close()
            raise
        return connection

    def __enter__(self) -> PairTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what was written, and close the file."""
        try:
            self._commit()
        finally:
            self._connection.close()

    def retain(self, names: Iterable[str], keys: Mapping[Pair, str]) -> list[Pair]:
        """Make this the table of these photos and pairs: what is there under another key, or of others, goes.

        Args:
            names: of all photos.
            keys: by pair (name0 < name1), the digest of all that its matches depend on.

        Returns:
            The pairs that have to be matched, sorted.
        """
        self._ids = {name: image_id for image_id, name in enumerate(sorted(names), 1)}
        with self._transaction() as db:
            known = db.execute("SELECT pair_id, name0, name1, matched FROM tpsfm_pairs").fetchall()
            kept = {(a, b): pair_id for pair_id, a, b, key in known if keys.get((a, b)) == key}
            for table in _PAIR_TABLES:
                there = {pair_id for (pair_id,) in db.execute(f"SELECT pair_id FROM {table}")}
                gone = there - set(kept.values())
                db.executemany(f"DELETE FROM {table} WHERE pair_id = ?", [(pair_id,) for pair_id in gone])
            if dict(db.execute("SELECT name, image_id FROM images")) != self._ids:
                self._clear_images(db)
            moved = [(-self._pair_id(pair), old) for pair, old in kept.items() if self._pair_id(pair) != old]
            for table in _PAIR_TABLES if moved else ():
                db.executemany(f"UPDATE {table} SET pair_id = ? WHERE pair_id = ?", moved)
                db.execute(f"UPDATE {table} SET pair_id = -pair_id WHERE pair_id < 0")
        return sorted(keys.keys() - kept.keys())

    def write(self, pair: Pair, matches: np.ndarray, key: str) -> None:
        """Store the matches of a pair that `retain` named.

        Args:
            pair: (name0, name1), name0 < name1.
            matches: uint32 [K, 2], indices of keypoints; there may be none.
            key: as for `retain`.
        """
        with self._reported():
            if self._begun is None:
                self._connection.execute("BEGIN")
                self._begun = time.monotonic()
            pair_id = self._pair_id(pair)
            if len(matches):
                rows = np.ascontiguousarray(matches, np.uint32)
                values = (pair_id, *rows.shape, rows.tobytes())
                self._connection.execute("INSERT OR REPLACE INTO matches VALUES (?, ?, ?, ?)", values)
            values = (pair_id, *pair, key, None)
            self._connection.execute("INSERT OR REPLACE INTO tpsfm_pairs VALUES (?, ?, ?, ?, ?)", values)
        if time.monotonic() - self._begun > COMMIT_EVERY:
            self._commit()

    def read(self, pair: Pair) -> np.ndarray:
        """The matches of a pair, uint32 [K, 2].

        Raises:
            TpsfmError: the pair isn't matched.
        """
        query = "SELECT data FROM tpsfm_pairs LEFT JOIN matches USING (pair_id) WHERE name0 = ? AND name1 = ?"
        with self._reported():
            row = self._connection.execute(query, pair).fetchone()
        if row is None:
            raise TpsfmError(f"{self.path} has no matches of {pair[0]} and {pair[1]}; run 'tpsfm match'")
        return np.frombuffer(row[0] or b"", np.uint32).reshape(-1, 2)

    def matched(self) -> dict[Pair, str]:
        """The keys of the matched pairs."""
        with self._reported():
            rows = self._connection.execute("SELECT name0, name1, matched FROM tpsfm_pairs ORDER BY pair_id")
            return {(name0, name1): key for name0, name1, key in rows}

    def to_verify(self, keys: Mapping[Pair, str]) -> list[tuple[int, int]]:
        """The pairs with matches whose two-view geometry is missing; those that are there under other keys go first.

        From then on a geometry that is written counts as made under these keys.

        Args:
            keys: by pair, the digest of all that its geometry depends on.

        Returns:
            Image ids, in order.
        """
        with self._transaction() as db:
            known = db.execute("SELECT pair_id, name0, name1, verified FROM tpsfm_pairs").fetchall()
            stale = [(keys.get((a, b)), pair_id) for pair_id, a, b, key in known if keys.get((a, b)) != key]
            db.executemany("DELETE FROM two_view_geometries WHERE pair_id = ?", [(pair_id,) for _, pair_id in stale])
            db.executemany("UPDATE tpsfm_pairs SET verified = ? WHERE pair_id = ?", stale)
            missing = db.execute(
                "SELECT pair_id FROM matches WHERE pair_id NOT IN (SELECT pair_id FROM two_view_geometries)"
                " ORDER BY pair_id"
            )
            return [pycolmap.pair_id_to_image_pair(pair_id) for (pair_id,) in missing]

    def drop_geometries(self, pairs: Iterable[Pair]) -> None:
        """Take out the two-view geometries of some pairs (name0 < name1)."""
        ids = "SELECT pair_id FROM tpsfm_pairs WHERE name0 = ? AND name1 = ?"
        with self._transaction() as db:
            db.executemany(f"DELETE FROM two_view_geometries WHERE pair_id IN ({ids})", list(pairs))

    def counts(self) -> tuple[dict[Pair, int], dict[Pair, int]]:
        """How many matches, and how many verified ones, each pair has that has matches."""
        query = (
            "SELECT matches.pair_id, matches.rows, geometry.rows, geometry.config"
            " FROM matches LEFT JOIN two_view_geometries AS geometry USING (pair_id) ORDER BY matches.pair_id"
        )
        with self._reported():
            names = dict(self._connection.execute("SELECT image_id, name FROM images"))
            rows = self._connection.execute(query).fetchall()
        matches, inliers = {}, {}
        for pair_id, count, verified, config in rows:
            first, second = pycolmap.pair_id_to_image_pair(pair_id)
            pair = names[first], names[second]
            matches[pair] = count
            inliers[pair] = 0 if config is None or config in NO_GEOMETRY else verified
        return matches, inliers

    @property
    def images_key(self) -> str | None:
        """The key of the images that are in the database, None where they are not complete."""
        with self._reported():
            row = self._connection.execute("SELECT key FROM tpsfm_images").fetchone()
        return row[0] if row else None

    @images_key.setter
    def images_key(self, key: str) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM tpsfm_images")
            db.execute("INSERT INTO tpsfm_images VALUES (?)", (key,))

    def clear_images(self) -> None:
        """Take out all images, cameras and keypoints; the pairs stay."""
        with self._transaction() as db:
            self._clear_images(db)

    def _clear_images(self, db: sqlite3.Connection) -> None:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted(set(tables) - set(_PAIR_TABLES)):
            db.execute(f"DELETE FROM {table}")

    def _pair_id(self, pair: Pair) -> int:
        return pycolmap.image_pair_to_pair_id(*(self._ids[name] for name in pair))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of a change, or nothing of it."""
        self._commit()
        with self._reported():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _commit(self) -> None:
        if self._begun is not None:
            self._begun = None
            with self._reported():
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._begun = None
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            remedy = "delete it and run again" if type(error) is sqlite3.DatabaseError else "mend that and run again"
            raise TpsfmError(f"cannot use the database {self.path}: {error}; {remedy}") from error

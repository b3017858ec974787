"""COLMAP's database: opened, removed, and what every camera and image in it has beside itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpsfm.colmap.loading import pycolmap
from tpsfm.errors import TpsfmError


@contextmanager
def open_database(path: str | Path, create: bool = False) -> Iterator[pycolmap.Database]:
    """COLMAP's database at `path`, closed at the end; each write is in the file when it returns.

    There is no `pycolmap.DatabaseTransaction` here: it aborts the process where its end finds the disk full.

    Raises:
        TpsfmError: it is missing, damaged or can't be written.
    """
    path = Path(path)
    if not create and not path.is_file():
        raise TpsfmError(f"no database '{path}'; run 'tpsfm match'")
    try:
        db = pycolmap.Database.open(path)
    except RuntimeError:
        problem = "can't be created" if create else "is damaged or can't be written; delete it and run again"
        raise TpsfmError(f"the database '{path}' {problem}") from None
    try:
        yield db
    except (RuntimeError, ValueError) as error:  # the second where COLMAP finds a value that can't be
        raise TpsfmError(f"the database '{path}' failed: {str(error).splitlines()[0]}") from error
    finally:
        db.close()


def write_camera(db: Any, camera: Any) -> Any:
    """Write a camera and its rig, which has no other sensor and the same id."""
    rig = pycolmap.Rig(rig_id=camera.camera_id)
    rig.add_ref_sensor(camera.sensor_id)
    db.write_camera(camera, use_camera_id=True)
    db.write_rig(rig, use_rig_id=True)
    return rig


def write_image(db: Any, image: Any) -> Any:
    """Write an image and its frame, which holds no other and has the same id."""
    frame = pycolmap.Frame(frame_id=image.image_id, rig_id=image.camera_id)
    frame.add_data_id(image.data_id)
    db.write_image(image, use_image_id=True)
    db.write_frame(frame, use_frame_id=True)
    return frame


def remove_database(path: Path) -> None:
    """Delete a database with the journals that belong to it alone."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

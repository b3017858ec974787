"""Extend a model with images of known poses: register them, triangulate their points, adjust all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.colmap.adjustment import adjust_model, drop_points
from tpsfm.colmap.convention import colmap_params
from tpsfm.colmap.database import open_database
from tpsfm.colmap.known_poses import add_camera, add_image
from tpsfm.colmap.loading import colmap_camera, pycolmap
from tpsfm.colmap.mapping import write_models
from tpsfm.colmap.verification import count_inliers, two_view_geometries
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera, Pose


def extend_model(
    model: Path,
    database: Path,
    images: Path,
    output: Path,
    photos: Mapping[str, tuple[Camera, Pose]],
    keypoints: Callable[[str], np.ndarray],
    matches: Iterable[tuple[str, str, np.ndarray]],
    seed: int = 0,
    threads: int = -1,
    fixed: Collection[int] = (),
) -> None:
    """Add localized photos to a model; the result is another model, in the same frame.

    Args:
        model: the map's folder, which is only read.
        database: a copy of its database; the photos are added to it.
        images: folder of all photos, the map's and the new ones, from which the points get their colours.
        output: folder of the new model.
        photos: camera and pose of each new photo by its name, which is new to the database.
        keypoints: name -> float32 [N, 2], of a new photo, in tpsfm's pixels.
        matches: (name0, name1, uint32 [M, 2] indices of keypoints) of pairs with at least one new photo.
        seed, threads, fixed: as in `reconstruct`.

    Raises:
        TpsfmError: the database is missing or damaged, or `output` can't be written.
    """
    pycolmap.set_random_seed(seed)
    options: Any = {"random_seed": seed, "num_threads": 1, "triangulation": {"random_seed": seed}}
    reconstruction = pycolmap.Reconstruction(model)
    with open_database(database) as db:
        _check(db, reconstruction, database)
        _share_cameras(db, reconstruction)
        _register(reconstruction, db, photos, keypoints)
        _write_pairs(db, matches, seed, threads)
    try:
        reconstruction = pycolmap.triangulate_points(
            reconstruction,
            database,
            images,
            output,
            clear_points=False,
            options=options,
        )
    except (RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't extend the map in '{output}': {str(error).splitlines()[0]}") from error
    adjust_model(reconstruction, fixed=fixed)
    drop_points(reconstruction)
    write_models([reconstruction], output, images, threads)


def _check(db: pycolmap.Database, reconstruction: pycolmap.Reconstruction, path: Path) -> None:
    """Raise TpsfmError where a model's images are not as in the database; cameras may be shared in the model alone."""
    sizes = {camera.camera_id: (camera.width, camera.height) for camera in db.read_all_cameras()}
    images = {image.image_id: image for image in db.read_all_images()}
    same = all(
        image_id in images
        and images[image_id].name == image.name
        and sizes.get(images[image_id].camera_id) == (image.camera.width, image.camera.height)
        and db.num_keypoints_for_image(image_id) == len(image.points2D)
        for image_id, image in reconstruction.images.items()
    )
    if not same:
        raise TpsfmError(f"the database '{path}' is not that of the map, or damaged; run 'tpsfm map' again")


def _share_cameras(db: pycolmap.Database, reconstruction: pycolmap.Reconstruction) -> None:
    """Give a database's images the cameras that they share in the model."""
    camera_of = {image.image_id: image.camera_id for image in db.read_all_images()}
    for image_id, image in reconstruction.images.items():
        if camera_of[image_id] != image.camera_id:
            db.update_frame(image.frame)
            db.update_image(image)


def _register(
    reconstruction: pycolmap.Reconstruction,
    db: pycolmap.Database,
    photos: Mapping[str, tuple[Camera, Pose]],
    keypoints: Callable[[str], np.ndarray],
) -> None:
    first = max((image.image_id for image in db.read_all_images()), default=0) + 1
    for image_id, (name, (camera, pose)) in enumerate(sorted(photos.items()), first):
        add_image(reconstruction, db, image_id, name, _camera_id(reconstruction, db, camera), pose, keypoints(name))


def _camera_id(reconstruction: pycolmap.Reconstruction, db: pycolmap.Database, camera: Camera) -> int:
    """The id of the model's camera that equals this one, else of a new one, whose rig has the same id."""
    for camera_id, other in reconstruction.cameras.items():
        same = (other.model.name, other.width, other.height) == (camera.model, camera.width, camera.height)
        if same and np.array_equal(other.params, colmap_params(camera)):
            return camera_id
    known = [*reconstruction.cameras, *(other.camera_id for other in db.read_all_cameras())]
    camera_id = max(known, default=0) + 1
    add_camera(reconstruction, db, colmap_camera(camera, camera_id))
    return camera_id


def _write_pairs(
    db: pycolmap.Database, matches: Iterable[tuple[str, str, np.ndarray]], seed: int, threads: int
) -> None:
    """Write the matches and the two-view geometries of their pairs."""
    images = {image.image_id: image for image in db.read_all_images()}
    ids = {image.name: image_id for image_id, image in images.items()}
    pairs = []
    for name0, name1, indices in matches:
        if len(indices):
            db.write_matches(ids[name0], ids[name1], np.asarray(indices, np.uint32))
            pairs.append((ids[name0], ids[name1]))
    for first, second, geometry in two_view_geometries(db, images, pairs, seed, threads):
        if count_inliers(geometry):
            db.write_two_view_geometry(first, second, geometry)

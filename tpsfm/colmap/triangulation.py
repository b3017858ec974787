"""A map from known cameras and poses: only its points are estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from tpsfm.colmap.adjustment import adjust_points
from tpsfm.colmap.database import open_database, remove_database
from tpsfm.colmap.known_poses import add_camera, add_image
from tpsfm.colmap.loading import colmap_camera, pycolmap
from tpsfm.colmap.mapping import write_models
from tpsfm.colmap.tracks import MIN_MATCHES, keep_one_a_photo, load_cache, triangulate_tracks, triangulation_options
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model

_CACHED_IMAGES = 256  # how many images' rays are kept in memory
_ROUNDS, _ITERATIONS, _TOLERANCE = 2, 10, 1e-4  # of the points' adjustment


def triangulate(
    known: Model,
    database: Path,
    images: Path,
    output: Path,
    keypoints: Callable[[str], np.ndarray],
    matches: Iterable[tuple[str, str, np.ndarray]],
    max_error: float = 4.0,
    seed: int = 0,
    threads: int = -1,
) -> int:
    """Triangulate matches between images of known cameras and poses, and write the map.

    An inlier is a match whose Sampson error (Hartley and Zisserman, 2004, eq. 11.9) under the known motion is small. A
    point needs three images, as in COLMAP. Points are adjusted, cameras and poses are not.

    Args:
        known: cameras and poses of the images; its points are not used.
        database: the database to write, in place of any that is there.
        images: the image folder, from which the points get their colours.
        output: folder of the new map, in place of any that is there.
        keypoints: name -> float32 [N, 2], in tpsfm's pixels.
        matches: (name0, name1, uint32 [M, 2] indices of keypoints).
        max_error: pixels, of a match and of an observation.
        seed: of every random choice.
        threads: -1 for all cores; with more than one the points differ by rounding errors from run to run.

    Returns:
        How many points the map has.

    Raises:
        TpsfmError: no point comes out, or a file can't be written.
    """
    pycolmap.set_random_seed(seed)
    model = pycolmap.Reconstruction()
    remove_database(database)
    with open_database(database, create=True) as db:
        _write_images(model, db, known, keypoints)
        agreed = _write_pairs(model, db, matches, max_error)
        cache = load_cache(db)
    if not agreed:
        raise TpsfmError(f"no map in '{output}': no match agrees with the known poses; are they world to camera?")
    mapper = pycolmap.IncrementalMapper(cache)
    options = pycolmap.IncrementalMapperOptions({"random_seed": seed, "filter_max_reproj_error": max_error})
    triangulation = triangulation_options(seed, max_error)
    mapper.begin_reconstruction(model)
    triangulate_tracks(mapper, cache.correspondence_graph, triangulation)
    for _ in range(_ROUNDS):
        mapper.filter_points(options)
        adjust_points(model, iterations=_ITERATIONS, tolerance=_TOLERANCE, threads=threads)
        mapper.complete_and_merge_tracks(triangulation)
    keep_one_a_photo(mapper)
    mapper.filter_points(options)
    mapper.end_reconstruction(False)
    if not model.num_points3D():
        raise TpsfmError(f"no map in '{output}': the matches that agree with the known poses give no point")
    model.update_point_3d_errors()
    write_models([model], output, images, threads)
    return model.num_points3D()


def to_binary(folder: Path, output: Path) -> None:
    """Write a model that COLMAP can read, text or binary, in the binary files of `tpsfm.colmap.reader.read_model`.

    Raises:
        TpsfmError: it can't be read or written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        pycolmap.Reconstruction(folder).write_binary(output)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't read the model in '{folder}': {str(error).splitlines()[0]}") from None


def _write_images(
    model: pycolmap.Reconstruction, db: pycolmap.Database, known: Model, keypoints: Callable[[str], np.ndarray]
) -> None:
    ids = {camera_id: number for number, camera_id in enumerate(sorted(known.cameras), start=1)}
    for camera_id, number in ids.items():
        camera = colmap_camera(known.cameras[camera_id], number)
        camera.has_prior_focal_length = True
        add_camera(model, db, camera)
    for image_id, (name, pose) in enumerate(sorted(known.images.items()), start=1):
        add_image(model, db, image_id, name, ids[pose.camera_id], pose, keypoints(name))


def _write_pairs(
    model: pycolmap.Reconstruction,
    db: pycolmap.Database,
    matches: Iterable[tuple[str, str, np.ndarray]],
    max_error: float,
) -> int:
    """Write all matches, and the inliers to the known motion as two-view geometries; returns how many of these."""
    images = {image.name: image for image in model.images.values()}

    @lru_cache(_CACHED_IMAGES)
    def rays(name: str) -> np.ndarray:
        """float64 [N, 2], keypoints on the plane at distance 1; nan where the lens has none."""
        image = images[name]
        return np.asarray(image.camera.cam_from_img(db.read_keypoints(image.image_id)[:, :2].astype(np.float64)))

    agreed = 0
    for name0, name1, indices in matches:
        if not len(indices):
            continue
        one, two = images[name0], images[name1]
        db.write_matches(one.image_id, two.image_id, np.asarray(indices, np.uint32))
        motion = two.cam_from_world() * one.cam_from_world().inverse()
        essential = pycolmap.essential_matrix_from_pose(motion)
        ends = rays(name0)[indices[:, 0]], rays(name1)[indices[:, 1]]
        focal = (one.camera.mean_focal_length() + two.camera.mean_focal_length()) / 2
        errors = focal * np.sqrt(pycolmap.compute_squared_sampson_error(*ends, essential))
        inliers = indices[errors <= max_error]
        if len(inliers) < MIN_MATCHES:
            continue
        geometry = pycolmap.TwoViewGeometry(
            {
                "config": pycolmap.TwoViewGeometryConfiguration.CALIBRATED,
                "E": essential,
                "cam2_from_cam1": motion,
                "inlier_matches": np.asarray(inliers, np.uint32),
            }
        )
        db.write_two_view_geometry(one.image_id, two.image_id, geometry)
        agreed += 1
    return agreed

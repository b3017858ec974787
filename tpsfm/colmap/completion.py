"""All points of a map whose cameras were found by a part of the matches, and the photos that only all of them place."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from tpsfm.colmap.adjustment import adjust_model, drop_points
from tpsfm.colmap.database import open_database
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.mapping import MAPPER_OPTIONS
from tpsfm.errors import TpsfmError

_LOSS = 1.0  # pixels of the Cauchy loss: an observation this far off counts half
_ITERATIONS, _TOLERANCE = 10, 1e-3  # of the adjustment, which begins close to its end


def complete_model(
    model: Path,
    database: Path,
    elsewhere: Collection[str] = (),
    seed: int = 0,
    threads: int = -1,
    fixed: Collection[int] = (),
    adjusting: int = 1,
) -> list[str]:
    """Triangulate all verified matches, register the photos that have enough of them now, and adjust all.

    Args:
        model: folder of the map, which is replaced file by file.
        database: with all verified matches.
        elsewhere: names of photos that are not to be registered: those of other maps.
        seed, threads, fixed, adjusting: as for `reconstruct`.

    Returns:
        The names of the photos that were registered.

    Raises:
        TpsfmError: the database is damaged, or the model can't be read or written.
    """
    pycolmap.set_random_seed(seed)
    with open_database(database) as db:
        cache = pycolmap.DatabaseCache.create(db, pycolmap.DatabaseCacheOptions({"min_num_matches": 15}))
    try:
        reconstruction = pycolmap.Reconstruction(model)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't read the model in '{model}': {str(error).splitlines()[0]}") from None
    _adopt_cameras(cache, reconstruction)
    mapper = pycolmap.IncrementalMapper(cache)
    options = pycolmap.IncrementalMapperOptions({**MAPPER_OPTIONS, "random_seed": seed, "num_threads": threads})
    only_pair = reconstruction.num_reg_images() == 2
    triangulation = pycolmap.IncrementalTriangulatorOptions(
        {"random_seed": seed, "ignore_two_view_tracks": not only_pair}
    )
    mapper.begin_reconstruction(reconstruction)
    mapper.triangulator.complete_all_tracks(triangulation)
    for image_id in _walk(reconstruction.reg_image_ids(), cache.correspondence_graph):
        mapper.clear_modified_points3D()
        mapper.triangulate_image(triangulation, image_id)
        # At once: else each image begins tracks of its own, and merging them takes ten times as long as all the rest.
        mapper.triangulator.complete_tracks(triangulation, mapper.get_modified_points3D())
    added = []
    while True:
        for image_id in mapper.find_next_images(options, structure_less=False):
            name = reconstruction.image(image_id).name
            if name not in elsewhere and mapper.register_next_image(options, image_id):
                mapper.triangulate_image(triangulation, image_id)
                added.append(name)
                break
        else:
            break
    mapper.complete_and_merge_tracks(triangulation)
    mapper.filter_points(options)
    mapper.end_reconstruction(False)
    adjust_model(reconstruction, _LOSS, _ITERATIONS, _TOLERANCE, fixed, threads=adjusting)
    drop_points(reconstruction)
    try:
        reconstruction.write_binary(model)
    except (OSError, RuntimeError) as error:
        raise TpsfmError(f"can't write the map to '{model}': {error}") from None
    return sorted(added)


def _walk(image_ids: Iterable[int], graph: pycolmap.CorrespondenceGraph) -> Iterator[int]:
    """The images, each after one that it shares many matches with: a track then grows, where it would begin anew."""
    shared: dict[int, list[tuple[int, int]]] = {image_id: [] for image_id in sorted(image_ids)}
    for pair_id, count in graph.num_matches_between_all_images().items():
        first, second = pycolmap.pair_id_to_image_pair(pair_id)
        if first in shared and second in shared:
            shared[first].append((-count, second))
            shared[second].append((-count, first))
    left = dict.fromkeys(shared)
    while left:
        near = [(0, next(iter(left)))]
        while near:
            _, image_id = heapq.heappop(near)
            if image_id in left:
                del left[image_id]
                yield image_id
                for edge in shared[image_id]:
                    heapq.heappush(near, edge)


def _adopt_cameras(cache: pycolmap.DatabaseCache, reconstruction: pycolmap.Reconstruction) -> None:
    """Give the database's images the cameras that they share in the model."""
    for image_id, image in reconstruction.images.items():
        known = cache.image(image_id)
        if known.camera_id != image.camera_id:
            known.camera_id = image.camera_id
            frame = cache.frame(image.frame_id)
            frame.rig_id = image.frame.rig_id
            frame.clear_data_ids()
            for data_id in image.frame.data_ids:
                frame.add_data_id(data_id)

"""All points of a map whose cameras were found by a part of the matches, and the photos that only all of them place."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from tpsfm.colmap.adjustment import adjust_model, drop_points
from tpsfm.colmap.database import open_database
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.mapping import MAPPER_OPTIONS
from tpsfm.colmap.snapshots import Checkpoint
from tpsfm.colmap.tracks import keep_one_a_photo, load_cache, triangulate_tracks, triangulation_options
from tpsfm.errors import TpsfmError

_LOSS = 0.25  # times the greatest error of an observation: so far off it counts half, by the Cauchy loss
_TRIANGULATED = 4  # steps, as many as parts of the images
_ITERATIONS, _TOLERANCE = 10, 1e-3  # of the adjustment, which begins close to its end


def complete_model(
    model: Path,
    database: Path,
    elsewhere: Collection[str] = (),
    seed: int = 0,
    threads: int = -1,
    fixed: Collection[int] = (),
    adjusting: int = 1,
    max_error: float = 4.0,
    checkpoint: Path | None = None,
) -> list[str]:
    """Triangulate all verified matches, register the photos that have enough of them now, and adjust all.

    Args:
        model: folder of the map, which is replaced file by file.
        database: with all verified matches.
        elsewhere: names of photos that are not to be registered: those of other maps.
        seed, threads, fixed, adjusting: as for `reconstruct`.
        max_error: pixels, of an observation.
        checkpoint: folder of what the completion goes on from where it is killed; None keeps nothing.

    Returns:
        The names of the photos that were registered.

    Raises:
        TpsfmError: the database is damaged, or the model can't be read or written.
    """
    pycolmap.set_random_seed(seed)
    kept = Checkpoint(checkpoint) if checkpoint else None
    try:
        reconstruction = pycolmap.Reconstruction(model)
        before = _names(reconstruction)
        reconstruction, begin = (kept and kept.load()) or (reconstruction, 0)
    except (OSError, RuntimeError, ValueError) as error:
        raise TpsfmError(f"can't read the model in '{model}': {str(error).splitlines()[0]}") from None

    def keep(done: int) -> None:
        if kept:
            kept.save(reconstruction, done)

    try:
        if begin < _TRIANGULATED:
            _triangulate(reconstruction, database, elsewhere, seed, threads, max_error, keep, begin)
            keep(_TRIANGULATED)
        adjust_model(
            reconstruction,
            _LOSS * max_error,
            _ITERATIONS,
            _TOLERANCE,
            fixed,
            threads=adjusting,
            keep=(lambda rounds: keep(_TRIANGULATED + rounds)) if kept else None,
            begin=max(0, begin - _TRIANGULATED),
        )
        drop_points(reconstruction, max_error)
        new = model / "new"
        new.mkdir(exist_ok=True)
        reconstruction.write_binary(new)
        for file in new.iterdir():
            file.replace(model / file.name)
        new.rmdir()
    except (OSError, RuntimeError) as error:
        raise TpsfmError(f"can't write the map to '{model}': {error}") from None
    return sorted(_names(reconstruction) - before)


def _names(reconstruction: pycolmap.Reconstruction) -> set[str]:
    return {reconstruction.image(image_id).name for image_id in reconstruction.reg_image_ids()}


def _triangulate(
    reconstruction: pycolmap.Reconstruction,
    database: Path,
    elsewhere: Collection[str],
    seed: int,
    threads: int,
    max_error: float,
    keep: Callable[[int], None],
    begin: int,
) -> None:
    """Triangulate all verified matches, and register the photos that have enough of them."""
    with open_database(database) as db:
        cache = load_cache(db)
    _adopt_cameras(cache, reconstruction)
    mapper = pycolmap.IncrementalMapper(cache)
    options = pycolmap.IncrementalMapperOptions(
        {**MAPPER_OPTIONS, "random_seed": seed, "num_threads": threads, "filter_max_reproj_error": max_error}
    )
    triangulation = triangulation_options(seed, max_error, two_views=reconstruction.num_reg_images() == 2)
    mapper.begin_reconstruction(reconstruction)
    triangulate_tracks(mapper, cache.correspondence_graph, triangulation, keep, begin, _TRIANGULATED)
    while True:
        for image_id in mapper.find_next_images(options, structure_less=False):
            name = reconstruction.image(image_id).name
            if name not in elsewhere and mapper.register_next_image(options, image_id):
                mapper.triangulate_image(triangulation, image_id)
                break
        else:
            break
    mapper.complete_and_merge_tracks(triangulation)
    keep_one_a_photo(mapper)
    mapper.filter_points(options)
    mapper.end_reconstruction(False)


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

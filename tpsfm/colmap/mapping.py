"""Structure from motion: from a verified database to models, the largest first."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tpsfm.colmap.adjustment import restore_cameras
from tpsfm.colmap.colors import color_points
from tpsfm.colmap.database import open_database
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.one_point import are_from_one_point
from tpsfm.colmap.reader import read_model
from tpsfm.colmap.rigs import turns_only
from tpsfm.colmap.snapshots import Snapshots, Steps
from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import replace_folder
from tpsfm.pairs.selection import components

_log = logging.getLogger("tpsfm")

_FEW = 0.5  # below this share of the photos that have a verified pair in all models, mapping is tried again, relaxed
_MOST = 0.8  # of the photos that sure pairs connect: fewer in the largest model, and they are mapped globally, too
_SURE = 30  # inliers of a pair that connects two photos; of 1,000 random matches some 30 agree on a geometry
_SNAPSHOTS, _PART_SNAPSHOTS = 40, 8  # of a mapping of all photos, and of some
_MIN_POINTS = 50  # of a model of two photos, which no third one confirms
# What differs from COLMAP's defaults. Bundle adjustment: half the time, the same accuracy (pose AUC within 0.1
# on three scenes). A photo with few inliers is taken rather than left to the fallback without structure,
# which took 15 s for one photo.
_OPTIONS = {
    "min_model_size": 3,  # photos; a smaller model is kept only if it is the first
    "ba_global_frames_ratio": 1.3,
    "ba_global_points_ratio": 1.3,
    "ba_global_max_num_iterations": 20,
    "ba_local_max_num_iterations": 10,
    "ba_local_max_refinements": 1,
    "structure_less_registration_fallback": False,
    "extract_colors": False,  # at the end, for what is kept
}
MAPPER_OPTIONS = {"abs_pose_min_num_inliers": 15}
_RELAXED_OPTIONS = {"structure_less_registration_fallback": True}
_RELAXED_MAPPER = {
    "init_min_num_inliers": 30,
    "init_min_tri_angle": 4.0,
    "init_max_forward_motion": 1.0,
    "abs_pose_min_inlier_ratio": 0.15,
}


def reconstruct(
    database: str | Path,
    output: str | Path,
    mapper: str = "auto",
    seed: int = 0,
    threads: int = -1,
    progress: Callable[[int], None] | None = None,
    fixed: Collection[int] = (),
    adjusting: int = 1,
    snapshots: Path | None = None,
) -> tuple[list[Path], str]:
    """Models of the photos, without colours.

    "incremental" registers photo after photo, starting from a good pair. Where fewer than half of the photos that have
    a verified pair get registered, in whichever model, it is tried once more with relaxed thresholds and the result
    with more photos is kept.

    "global" (GLOMAP) solves for all rotations, then all positions at once: fast for many photos that overlap well.

    "auto": photos that verified pairs connect belong into one model. Where less than `_MOST` of the largest such part
    are in the largest model of incremental mapping, all are solved for at once, and the models whose largest has more
    photos, then more points, are kept. The log "tpsfm" says so.

    Args:
        database: a database after `verify_matches`.
        output: folder for the largest model; others go to its subfolders "1", "2", ... by size. It is
            replaced as a whole at the end, and left alone where there is no model.
        mapper: "incremental", "global" or "auto".
        seed: of every random choice; the same seed gives the same models.
        threads: how many to use where that doesn't change the result; -1 for all cores.
        progress: called with the number of photos registered so far in the model that is growing.
        fixed: ids of cameras whose intrinsics stay as they are in the database.
        adjusting: threads of bundle adjustment; with more than one the last bits differ from run to run.
        snapshots: folder of snapshots of incremental mapping, from which it goes on where it was killed; None makes
            none. The last bits of the map then differ.

    Returns:
        The model folders, largest first, none where no pair of photos could start a model, or all were taken from one
        point; and which mapper made them, "incremental" or "global".

    Raises:
        TpsfmError: the database is missing or damaged, or `output` can't be written.
    """
    if mapper == "global":
        return write_models(_global(database, seed, fixed), Path(output)), mapper
    models = _incremental(database, seed, threads, progress, fixed, adjusting, snapshots=snapshots)
    together = _largest_part(database) if mapper == "auto" else 0
    mapper = "incremental"
    if _size(models)[0] < _MOST * together and (models or not are_from_one_point(database)):
        _log.warning("%d of %d connected photos are in one model: mapping globally", _size(models)[0], together)
        others = _global(database, seed, fixed)
        if _size(others) > _size(models):
            models, mapper = others, "global"
        _log.warning("global mapping put %d photos in one model; the %s map is kept", _size(others)[0], mapper)
    return write_models(models, Path(output)), mapper


def reconstruct_part(
    database: str | Path,
    output: Path,
    names: Collection[str],
    seed: int = 0,
    threads: int = -1,
    progress: Callable[[int], None] | None = None,
    fixed: Collection[int] = (),
    snapshots: Path | None = None,
) -> bool:
    """Map some of the photos alone; the largest model goes to `output`, whole and without colours, if there is one.

    The arguments are those of `reconstruct`, and the names of the photos. Several may run at once.

    Returns:
        Whether there is a model.
    """
    models = _incremental(database, seed, threads, progress, fixed, 1, names, snapshots)
    return bool(write_models(models[:1], output))


def _incremental(
    database: str | Path,
    seed: int,
    threads: int,
    progress: Callable[[int], None] | None,
    fixed: Collection[int],
    adjusting: int,
    names: Collection[str] = (),
    snapshots: Path | None = None,
) -> list:
    """COLMAP's reconstructions, the largest first; of some photos alone where their names are given."""
    connected = _connected(database, names)
    only_pairs = _largest_part(database, names) == 2  # else a point of two views alone waits for a third

    with open_database(database) as db:
        refined = not turns_only(db.read_all_rigs())
    kept = None if snapshots is None else Snapshots(snapshots, connected // (_PART_SNAPSHOTS if names else _SNAPSHOTS))

    def run(folder: str, options: dict[str, Any], mapper: dict[str, Any], kept: Snapshots | None = None) -> list:
        begun = kept.best() if kept else None
        if begun:
            _log.info("going on with a map of %d photos", begun[1])
        steps = Steps(progress, kept, begun[1] if begun else 0)
        pycolmap.set_random_seed(seed)
        models = pycolmap.incremental_mapping(
            database,
            folder,  # of the images, which are not read
            folder,
            options=pycolmap.IncrementalPipelineOptions(
                {
                    **_OPTIONS,
                    **options,
                    **(kept.options if kept else {}),
                    "num_threads": adjusting,  # of bundle adjustment: several change its sums from run to run
                    "random_seed": seed,
                    "constant_cameras": set(fixed),
                    "ba_refine_sensor_from_rig": refined,
                    "image_names": sorted(names),
                    "mapper": {**MAPPER_OPTIONS, **mapper, "random_seed": seed, "num_threads": threads},
                    "triangulation": {"random_seed": seed, "ignore_two_view_tracks": not only_pairs},
                }
            ),
            input_path=begun[0] if begun else "",
            initial_image_pair_callback=steps.start,
            next_image_callback=steps.next,
        )
        return _credible(models, database)

    with tempfile.TemporaryDirectory() as folder:  # COLMAP wants to write each model; ours go to `output`
        models = run(folder, {}, {}, kept) if connected else []
        from_one_point = not models and are_from_one_point(database)  # then no other try gives a map
        if connected and _registered(models) < _FEW * connected and not from_one_point:
            before = _registered(models)
            _log.warning("%d of %d connected photos registered: trying relaxed thresholds", before, connected)
            models = max(models, run(folder, _RELAXED_OPTIONS, _RELAXED_MAPPER), key=_registered)
            _log.warning("relaxed thresholds registered %d of %d", _registered(models), connected)
    return models


def _global(database: str | Path, seed: int, fixed: Collection[int]) -> list:
    """COLMAP's reconstructions, the largest first, from a copy of the database, in which it changes cameras."""
    if not _connected(database):
        return []
    pycolmap.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "database.db"
        shutil.copy(database, copy)
        models = pycolmap.global_mapping(
            copy,
            folder,
            folder,
            options=pycolmap.GlobalPipelineOptions(
                {
                    "random_seed": seed,
                    "num_threads": 1,  # several change its sums from run to run
                    "mapper": {"random_seed": seed, "num_threads": 1},
                }
            ),
        )
        if fixed:
            with open_database(database) as db:
                cameras = [camera for camera in db.read_all_cameras() if camera.camera_id in fixed]
            for model in models.values():
                restore_cameras(model, cameras)
        return _credible(models, database)


def _credible(models: dict, database: str | Path) -> list:
    """COLMAP's reconstructions, the largest first, but those of photos from one point, and of two with few points."""
    found = [
        model
        for model in largest_first(models)
        if (model.num_reg_images() > 2 or model.num_points3D() >= _MIN_POINTS)
        and not are_from_one_point(database, {image.name for image in model.images.values() if image.has_pose})
    ]
    if len(found) < len(models):
        _log.info(
            "%d of %d models are of photos from one point, or of two with few points",
            len(models) - len(found),
            len(models),
        )
    return found


def _connected(database: str | Path, names: Collection[str] = ()) -> int:
    """How many images, of all or of these, have a verified pair."""
    return len({image_id for pair in _verified_pairs(database, 1, names) for image_id in pair})


def _largest_part(database: str | Path, names: Collection[str] = ()) -> int:
    """How many images the verified pairs of `_SURE` matches connect at most."""
    pairs = _verified_pairs(database, _SURE, names)
    return len(next(iter(components({image_id for pair in pairs for image_id in pair}, pairs)), []))


def _verified_pairs(database: str | Path, inliers: int, names: Collection[str]) -> list[tuple[int, int]]:
    """Pairs of image ids with at least so many inliers, of all images or of these."""
    with open_database(database) as db:
        pair_ids, counts = db.read_two_view_geometry_num_inliers()
        pairs = [pycolmap.pair_id_to_image_pair(i) for i, n in zip(pair_ids, counts, strict=True) if n >= inliers]
        if not names:
            return pairs
        own = {image.image_id for image in db.read_all_images() if image.name in names}
        return [(first, second) for first, second in pairs if first in own and second in own]


def _size(models: list) -> tuple[int, int]:
    """Images and points of the first reconstruction."""
    return (models[0].num_reg_images(), models[0].num_points3D()) if models else (0, 0)


def largest_first(models: dict) -> list:
    """COLMAP's reconstructions by the number of images, then of points."""
    return sorted(models.values(), key=lambda model: (-model.num_reg_images(), -model.num_points3D()))


def _registered(models: list) -> int:
    """How many images are registered in at least one model."""
    return len({image_id for model in models for image_id in model.reg_image_ids()})


def write_models(models: list, output: Path, images: Path | None = None, threads: int = -1) -> list[Path]:
    """Write COLMAP's reconstructions, the first at the top of `output`, whole or not at all.

    Args:
        images: the image folder, from which the points get their colours; None leaves them black.
        threads: that read images; -1 for all cores.
    """
    if not models:
        return []
    new = output.with_name(output.name + ".new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        for number, model in enumerate(models):
            folder = new / str(number) if number else new
            folder.mkdir(parents=True)
            model.write_binary(folder)
            if images is not None:
                color_points(folder, images, threads)
            read_model(folder)  # COLMAP doesn't notice a full disk
    except (OSError, RuntimeError) as error:
        raise TpsfmError(f"can't write the map to '{output}': {error}") from None
    replace_folder(new, output)
    return [output / str(number) if number else output for number in range(len(models))]

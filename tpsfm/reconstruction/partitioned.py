"""A map of many photos: overlapping parts of the view graph mapped one by one, placed in one frame and adjusted."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from tpsfm import colmap
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs.partition import cut
from tpsfm.pairs.selection import Pair, components
from tpsfm.parallel import in_parallel
from tpsfm.reconstruction.parts import Part, place, union_of_one_run

FROM = 1000  # photos from which a map is made in parts; with 400 they cost 1.6 times the processor time of one map
LARGEST = 150  # photos of a part, before it takes some of its neighbours' in
CONNECTED = 30  # verified matches that connect two photos
MOST = 0.9  # of all photos with verified pairs must be connected, and in the map

_ERRORS = (12.0, 8.0, 4.0)  # pixels of an observation, round by round in which the parts are adjusted together

log = logging.getLogger("tpsfm")


def is_worthwhile(inliers: dict[Pair, int], least: int = FROM) -> bool:
    """Whether a map of so many photos is better made in parts: they are enough, and all connected.

    Args:
        inliers: verified matches by pair.
        least: photos.
    """
    sure = [pair for pair, count in inliers.items() if count >= CONNECTED]
    photos = {name for pair, count in inliers.items() if count for name in pair}
    connected = len(next(iter(components(photos, sure)), []))
    return connected >= least and connected >= MOST * len(photos)


def map_in_parts(
    workspace: Workspace,
    database: Path,
    key: str,
    seed: int = 0,
    threads: int = -1,
    adjusting: int = 1,
    progress: Callable[[int], None] | None = None,
    fixed: Collection[int] = (),
    snapshots: Path | None = None,
    largest: int = LARGEST,
) -> list[Path]:
    """Map parts of the view graph, as many at once as there are threads, and make one map of them in `mapped`.

    A part that is mapped stays in the folder `parts`, from which a run that is killed goes on; the caller removes it.

    Args:
        workspace: of the map.
        database: its database, with verified matches.
        key: of the map, and of its parts.
        seed, threads, adjusting, progress, fixed, snapshots: as for `colmap.reconstruct`.
        largest: photos of a part.

    Returns:
        The model's folder; none where the parts don't fit together, or too few photos are in them.
    """
    weights = {pair: float(count) for pair, count in colmap.verified_inliers(database).items() if count}
    photos = {name for pair in weights for name in pair}
    parts = [names for names in cut(photos, weights, largest) if len(names) > 2]
    log.info("map: %d photos in %d parts of %s", len(photos), len(parts), ", ".join(str(len(part)) for part in parts))
    folders = [workspace.root / "parts" / digest([key, names]) for names in parts]
    todo = [number for number, folder in enumerate(folders) if not (folder / "images.bin").exists()]
    registered = Counter({number: len(names) for number, names in enumerate(parts) if number not in todo})

    def map_part(number: int) -> None:
        def step(done: int) -> None:
            registered[number] = done
            if progress is not None:
                progress(min(sum(registered.values()), len(photos)))

        with tempfile.TemporaryDirectory() as own:  # SQLite refuses one of two threads that open a file at once
            copy = shutil.copy(database, own)
            own_snapshots = snapshots and snapshots.parent / folders[number].name
            colmap.reconstruct_part(copy, folders[number], parts[number], seed, 1, step, fixed, own_snapshots)

    for _ in in_parallel(map_part, ((n, (n,)) for n in todo), threads if threads > 0 else os.cpu_count() or 1):
        pass
    there = [_read(folder, f"part {n}") for n, folder in enumerate(folders) if (folder / "images.bin").exists()]
    try:
        placed = place(there, {}) if len(there) > 1 else there
    except TpsfmError as error:
        log.warning("map: the parts don't fit together: %s", error)
        return []
    known = union_of_one_run(placed)
    if len(known.images) < MOST * len(photos):
        log.warning("map: %d of %d photos are in parts that fit together", len(known.images), len(photos))
        return []
    shutil.rmtree(workspace.mapped, ignore_errors=True)
    workspace.mapped.mkdir()
    colmap.write_placed(database, known, workspace.mapped)
    for allowed in _ERRORS:
        colmap.complete_model(workspace.mapped, database, (), seed, threads, fixed, adjusting, allowed)
    return [workspace.mapped]


def _read(folder: Path, label: str) -> Part:
    observations = colmap.read_observations(folder)
    return Part(label, colmap.read_model(folder), {name: rows for name, (_, rows) in observations.items()}, folder)

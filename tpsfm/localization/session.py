"""Localize many photos: a bad one does not stop the others, and those that are done are not done again."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tpsfm.colmap import GivenCamera, parse_camera
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera
from tpsfm.io.atomic import write_atomic
from tpsfm.io.workspace import digest
from tpsfm.localization.extension import Extension
from tpsfm.localization.map import Map
from tpsfm.localization.output import PAGE, STORE, LocalizationStore, make_folder, write_results
from tpsfm.localization.page import page
from tpsfm.localization.queries import Query, list_queries
from tpsfm.localization.result import Localization
from tpsfm.photos import Masks, Photo, read_photo
from tpsfm.progress import Progress

log = logging.getLogger("tpsfm")


def localize(
    queries: str | Path,
    map: str | Path | Map,
    out: str | Path,
    *,
    images: str | Path | None = None,
    camera: str | None = None,
    masks: str | Path | None = None,
    top_k: int = 20,
    add: bool = False,
    device: str = "auto",
    model: int = 0,
    progress: Progress | None = None,
) -> list[Localization]:
    """Localize photos in a map, and write poses.txt, localization.json and localization.html into `out`.

    Interrupted, it writes the results of the photos done so far; the same call then continues: photos that
    `out`/localization.h5 holds for this map, with the same options, are not localized again.

    Args:
        queries: a folder, a photo, or a list with intrinsics (see `list_queries`).
        map: a reconstruction's workspace, or a `Map` that is loaded already.
        out: folder of the results; made where it is missing.
        images: for a list, the folder that its names are relative to.
        camera: "MODEL,W,H,p1,p2,..." of all queries that a list gives no camera; scaled to photos of other sizes.
            Without the size, "MODEL,p1,p2,...", it is for photos whose middle its principal point is close to.
        masks: folder of the queries' masks, black where no keypoint may lie, named as those of `tpsfm reconstruct` are.
        top_k: how many of the map's images each query is matched with; a `Map` that is loaded has its own.
        add: extend the map with the localized photos, into the new workspace `out`/map (see `Extension`).
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        model: which of the workspace's models, 0 the largest; a `Map` that is loaded has its own.
        progress: shows the progress; None is silent.

    Returns:
        The results, in the order of the queries; a photo that failed has a reason and no pose.

    Raises:
        TpsfmError: there are no queries, a row of the list or the camera is bad, there is no folder of masks, the map
            can't be used, or `out` can't be written.
    """
    given = None if camera is None else parse_camera(camera)
    masks = None if masks is None else Path(masks)
    root, wanted = list_queries(queries, images, masks)
    masked = None if masks is None else Masks(masks, root, [query.name for query in wanted])
    if masked is not None:
        log.log(logging.INFO if masked.complete else logging.WARNING, "%s", masked.summary())
    out = Path(out)
    make_folder(out)
    if not isinstance(map, Map):
        map = Map(map, device, top_k, model)
    progress = progress or Progress()
    results: dict[Path, Localization] = {}
    kept = 0
    with (
        LocalizationStore(out / STORE, "a") as store,
        Extension.open(map, out / "map") if add else nullcontext() as extension,
    ):
        try:
            with progress.bar("localizing", len(wanted)) as update:
                for query in wanted:
                    path = root / query.name
                    photo = _photo(path, query.name)
                    try:
                        lens = _camera(query, photo, given)
                        mask = None if masked is None or isinstance(photo, Path) else masked.read(photo)
                    except TpsfmError as error:
                        results[path] = Localization(query.name, reason=str(error))
                        continue
                    key = _key(map, photo, lens, mask)
                    result = store.find(query.name, key, add)
                    kept += result is not None
                    if result is None:
                        result, features = map.localize_with_features(photo, lens, query.name, mask=mask)
                        store.keep(result, features if add else None, key)
                    results[path] = result
                    update(len(results), len(wanted))
        finally:
            if results:
                write_results(out, map, root, list(results.values()))
                write_atomic(out / PAGE, page(map.model, list(results.values()), root, map.images))
        if kept:
            progress.say(
                f"kept                {kept} of {len(results)} photos, done before in this map with these options"
            )
        if extension is not None:
            extension.build(results, store, progress)
    return list(results.values())


def _photo(path: Path, name: str) -> Photo | Path:
    """The record of a photo; of one that can't be read its path, so that localization says why."""
    try:
        return read_photo(path, name)
    except TpsfmError:
        return path


def _camera(query: Query, photo: Photo | Path, given: GivenCamera | None) -> Camera | None:
    """The query's own camera, else the one given for all.

    Raises:
        TpsfmError: the given one doesn't fit the photo.
    """
    if query.camera is not None or given is None or isinstance(photo, Path):
        return query.camera
    return given.fit(photo)


def _key(map: Map, photo: Photo | Path, camera: Camera | None, mask: np.ndarray | None) -> str:
    """A digest of all that the localization of a photo depends on."""
    content = "unreadable" if isinstance(photo, Path) else photo.content
    allowed = [] if mask is None else [np.packbits(mask).tobytes().hex()]
    return digest([map.fingerprint, content, None if camera is None else asdict(camera), *allowed])

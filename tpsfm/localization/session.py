"""Many queries in one go: no bad one stops the rest, and those that are done are not done again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tpsfm.errors import TpsfmError
from tpsfm.geometry.model import Camera
from tpsfm.io.workspace import digest
from tpsfm.localization.cache import STORE, LocalizationStore
from tpsfm.localization.extend import Extension
from tpsfm.localization.intrinsics import parse_camera
from tpsfm.localization.map import Map
from tpsfm.localization.output import PAGE, make_folder, write_results, write_text
from tpsfm.localization.page import page
from tpsfm.localization.pose import Localization
from tpsfm.localization.queries import Query, list_queries
from tpsfm.photos.images import file_digest, probe
from tpsfm.progress import Quiet


def localize(
    queries: str | Path,
    map: str | Path | Map,
    out: str | Path,
    *,
    images: str | Path | None = None,
    camera: str | None = None,
    top_k: int = 20,
    add: bool = False,
    device: str = "auto",
    progress: Quiet | None = None,
) -> list[Localization]:
    """Localize photos in a map, and write poses.txt, localization.json and localization.html into `out`.

    Where it is interrupted, these tell of the photos that were done, and the same call goes on from there: photos that
    `out`/localization.h5 has of this map with the same options are not localized again.

    Args:
        queries: a folder, a photo, or a list with intrinsics (see `list_queries`).
        map: a reconstruction's workspace, or a `Map` that is loaded already.
        out: folder of the results; made where it is missing.
        images: for a list, the folder that its names are relative to.
        camera: "MODEL,p1,p2,..." of all queries that a list gives no camera.
        top_k: how many of the map's images each query is matched with; `map` knows its own where it is a `Map`.
        add: extend the map with the localized photos, into the new workspace `out`/map (see `extend.Extension`).
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        progress: who is told of the progress; None is nobody.

    Returns:
        The results, in the order of the queries; the failed among them have no pose but a reason.

    Raises:
        TpsfmError: there are no queries, a row of the list or the camera is bad, the map can't be used, or `out` can't
            be written.
    """
    given = None if camera is None else parse_camera(camera)
    root, wanted = list_queries(queries, images)
    out = Path(out)
    make_folder(out)
    if not isinstance(map, Map):
        map = Map(map, device, top_k)
    extension = Extension(map, out / "map") if add else None
    progress = progress or Quiet()
    results, kept = [], 0
    try:
        with LocalizationStore(out / STORE, "a") as store, progress.bar("localizing", len(wanted)) as update:
            for query in wanted:
                path = root / query.name
                lens = _camera(query, path, given)
                key = _key(map, path, lens)
                found = store.find(query.name, key, add)
                kept += found is not None
                if found is None:
                    found = map.localize_with_features(path, lens, query.name)
                    store.keep(found[0], found[1] if add and found[0].pose is not None else None, key)
                result, features = found
                results.append(result)
                if extension is not None and result.pose is not None:
                    extension.add(path, result, features)
                update(len(results), len(wanted))
    finally:
        if results:
            write_results(out, map, root, results)
            write_text(out / PAGE, page(map.model, results, root, map.images))
    if kept:
        progress.say(f"kept                {kept} of {len(results)} photos, done before in this map with these options")
    if extension is not None:
        extension.finish(progress)
    return results


def _camera(query: Query, path: Path, given: tuple[str, list[float]] | None) -> Camera | None:
    """The query's own camera, else the one given for all, at the photo's size."""
    if query.camera is not None or given is None:
        return query.camera
    try:
        info = probe(path)
    except TpsfmError:
        return None
    return Camera(given[0], info.width, info.height, given[1])


def _key(map: Map, path: Path, camera: Camera | None) -> str:
    """A digest of all that the localization of a photo depends on."""
    try:
        photo = file_digest(path)
    except TpsfmError as error:
        photo = str(error)
    return digest([map.fingerprint, photo, None if camera is None else asdict(camera)])

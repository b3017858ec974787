"""The stages of a reconstruction on a workspace; each runs again exactly when its inputs or options changed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features import Extractor
from tpsfm.features.upright import upright_features
from tpsfm.io.store import FeatureStore, MatchStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs import selection as pairing
from tpsfm.parallel import in_order
from tpsfm.photos import Photo, PhotoCatalog, file_digest, kept_photos, read_mask, read_photo
from tpsfm.progress import Quiet

if TYPE_CHECKING:
    from tpsfm.matching import Matcher

log = logging.getLogger("tpsfm")

EXHAUSTIVE_UP_TO = 60  # photos that 'auto' still matches all to all
PAIRINGS = ("auto", "exhaustive", "sequential", "retrieval", "gps", "file")
MAPPERS = ("incremental", "global")
READ_AHEAD = 2  # photos decoded while the network works


def find_turns(workspace: Workspace, images: Path, extractor: Extractor, progress: Quiet | None = None) -> None:
    """Find out by how many quarter turns each photo is to be turned to be seen as the others are (`tpsfm.turns`).

    The manifest then holds them ("turns"), by name where it is not 0.

    Raises:
        TpsfmError: the folder is missing, or holds no image.
    """
    from tpsfm.reconstruction import turns

    photos = {}
    with PhotoCatalog(images, workspace.photos) as catalog:
        for name in catalog.names:
            with suppress(TpsfmError):  # `extract` names those that can't be read
                photos[name] = catalog[name]
    key = digest([extractor.fingerprint, sorted((name, photo.digest) for name, photo in photos.items())])
    if workspace.is_done("turns", key):
        return
    start = time.perf_counter()
    previews: dict[str, turns.Preview] = {}
    with (progress or Quiet()).bar("turns", len(photos)) as update:
        for done, (name, photo) in enumerate(photos.items(), 1):
            with suppress(TpsfmError):
                previews[name] = turns.preview(extractor, photo.decode(), photo.orientation)
            update(done, len(photos))
    pairs = turns.likely_pairs(previews, extractor.vocabulary)
    with (progress or Quiet()).bar("turned pairs", len(pairs)) as update:
        relative = {}
        for done, pair in enumerate(pairs, 1):
            relative[pair] = turns.relative_turn(*(previews[name] for name in pair))
            update(done, len(pairs))
    found = workspace.manifest["turns"] = turns.agree(previews, relative)
    log.info("turns: %d of %d photos are turned", len(found), len(previews))
    _finish(workspace, "turns", key, start, len(pairs), {"turned": len(found)})


def extract(
    workspace: Workspace,
    images: Path,
    extractor: Extractor,
    masks: Path | None = None,
    turns: Mapping[str, int] | None = None,
    progress: Quiet | None = None,
) -> None:
    """Extract the features of every photo below a folder; those in the store under the same key stay.

    The key is a digest of the photo, its mask, its turn and the extractor's fingerprint. A photo that can't be read is
    left out and named in the manifest ("unreadable").

    Args:
        turns: by how many quarters clockwise photos are turned first, beyond what their EXIF orientation says, by name.

    Raises:
        TpsfmError: the folder or the masks' folder is missing, or fewer than two photos can be read.
    """
    catalog = PhotoCatalog(images, workspace.photos)
    if masks is not None and not masks.is_dir():
        raise TpsfmError(f"no folder of masks {masks}")
    start = time.perf_counter()
    keys: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    extracted = keypoints = 0
    with (
        catalog,
        FeatureStore(workspace.features, "a") as store,
        (progress or Quiet()).bar("features", len(catalog.names)) as update,
        ThreadPoolExecutor(1) as pool,
    ):
        store.describe(extractor.fingerprint)
        jobs = ((name, (name, catalog, masks, (turns or {}).get(name, 0), extractor, store)) for name in catalog.names)
        for done, (name, loaded) in enumerate(in_order(pool, _load, jobs, READ_AHEAD), 1):
            if isinstance(loaded, TpsfmError):
                unreadable[name] = str(loaded)
                log.warning("%s: left out: %s", name, loaded)
            else:
                key, photo, image, mask = loaded
                if image is not None:
                    store.write(name, upright_features(extractor, image, mask, photo.seen_orientation), key)
                    extracted += 1
                keys[name] = key
            update(done, len(catalog.names))
        for name in keys:
            keypoints += len(store.read_keypoints(name))
    if len(keys) < 2:
        raise TpsfmError(f"{images}: {len(keys)} of {len(catalog.names)} photos can be read; a map needs at least two")
    workspace.manifest |= {"images": str(images.resolve()), "photos": keys, "unreadable": unreadable}
    log.info("features: %d extracted, %d kept", extracted, len(keys) - extracted)
    key = digest(sorted(keys.items()))
    counts = {"photos": len(keys), "keypoints": keypoints, "unreadable": len(unreadable)}
    _finish(workspace, "extract", key, start, extracted, counts)


def _load(
    name: str, catalog: PhotoCatalog, masks: Path | None, turn: int, extractor: Extractor, store: FeatureStore
) -> tuple[str, Photo, np.ndarray | None, np.ndarray | None] | TpsfmError:
    """(key, photo with its turn, image, mask), the image None where the store has it already, or the error."""
    try:
        photo = replace(catalog[name], turn=turn)
        mask = None if masks is None else read_mask(masks, name, photo.size)
        mask_digest = None if mask is None else digest(np.packbits(mask).tobytes().hex())
        key = digest([photo.digest, mask_digest, photo.turn, extractor.fingerprint])
        return key, photo, None if store.key(name) == key else photo.decode(), mask
    except TpsfmError as error:
        return error


def make_pairs(
    workspace: Workspace,
    method: str = "auto",
    neighbours: int = 20,
    overlap: int = 10,
    quadratic: bool = True,
    pairs_file: Path | None = None,
    extractor: Callable[[], Extractor] = lambda: None,
    seed: int = 0,
    progress: Quiet | None = None,
) -> None:
    """Choose which photos are matched, and write them to pairs.txt.

    Args:
        method: one of `PAIRINGS`; "auto" is exhaustive up to 60 photos and retrieval above.
        neighbours: photos that each photo chooses (retrieval, gps).
        overlap, quadratic: as in `pairs.sequential`.
        pairs_file: the file to read for the method "file".
        extractor: gives it, for its vocabulary.
        seed: of the training of a vocabulary.

    Raises:
        TpsfmError: an option is out of its range, or the pairs file has a bad row.
    """
    photos = _photos(workspace)
    names = sorted(photos)
    if method not in PAIRINGS:
        raise TpsfmError(f"no way to choose pairs named '{method}'; there are: {', '.join(PAIRINGS)}")
    if method == "auto":
        method = "exhaustive" if len(names) <= EXHAUSTIVE_UP_TO else "retrieval"
    if method == "file" and pairs_file is None:
        raise TpsfmError("pairs from a file need the file; give --pairs-file")
    options = {
        "exhaustive": {},
        "sequential": {"overlap": overlap, "quadratic": quadratic},
        "retrieval": {"neighbours": neighbours, "seed": seed},
        "gps": {"neighbours": neighbours},
        "file": {"digest": file_digest(pairs_file) if method == "file" else None},
    }[method]
    key = digest([sorted(photos.items()), method, options])
    if workspace.is_done("pairs", key) and workspace.pairs.exists():
        return
    start = time.perf_counter()
    workspace.start("pairs")
    if method == "exhaustive":
        pairs = pairing.exhaustive(names)
    elif method == "sequential":
        pairs = pairing.sequential(names, overlap, quadratic)
    elif method == "gps":
        pairs = pairing.from_gps(names, _positions(_infos(workspace, names)), neighbours)
    elif method == "file":
        pairs = pairing.read_pairs(pairs_file, names)
    else:
        pairs = _retrieved(workspace, photos, neighbours, extractor(), seed, progress or Quiet())
    pairing.write_pairs(workspace.pairs, pairs)
    _finish(workspace, "pairs", key, start, len(pairs), {"pairs": len(pairs), "method": method})


def _retrieved(workspace, photos, neighbours, extractor, seed, progress) -> list[pairing.Pair]:
    from tpsfm.retrieval import global_descriptor_class
    from tpsfm.retrieval.index import key_of_global

    with FeatureStore(workspace.features, "a") as store:
        descriptor = global_descriptor_class().create(extractor, sorted(photos), store.read, seed)
        with progress.bar("retrieval", len(photos)) as update:
            for done, name in enumerate(sorted(photos), 1):
                wanted = key_of_global(store, name, descriptor)
                if store.global_key(name) != wanted:
                    store.write_global(name, descriptor.describe(store.read(name)), wanted)
                update(done, len(photos))
        return pairing.from_retrieval(sorted(photos), store.read_global, neighbours)


def match(workspace: Workspace, matcher: Matcher, progress: Quiet | None = None) -> None:
    """Match every pair of pairs.txt; pairs in the store under the same key stay.

    Raises:
        TpsfmError: an earlier stage is missing.
    """
    from tpsfm.matching.batch import match_pairs

    photos = _photos(workspace)
    pairs = _pairs(workspace, photos)
    keys = {(a, b): digest([photos[a], photos[b], matcher.fingerprint]) for a, b in pairs}
    key = digest(sorted(keys.values()))
    start = time.perf_counter()
    with (
        FeatureStore(workspace.features) as features,
        MatchStore(workspace.matches, "a") as matches,
        (progress or Quiet()).bar("matches", len(pairs)) as update,
    ):
        todo = [pair for pair in pairs if matches.key(*pair) != keys[pair]]
        kept = len(pairs) - len(todo)
        update(kept, len(pairs))
        for done, (pair, found) in enumerate(match_pairs(matcher, features.read, todo), kept + 1):
            matches.write(*pair, *found, keys[pair])
            update(done, len(pairs))
    log.info("matches: %d pairs matched, %d kept", len(todo), kept)
    _finish(workspace, "match", key, start, len(todo), {"pairs": len(pairs)})


def verify(
    workspace: Workspace,
    camera_model: str = "SIMPLE_RADIAL",
    camera_mode: str = "auto",
    seed: int = 0,
    threads: int = -1,
    progress: Quiet | None = None,
) -> None:
    """Write COLMAP's database anew and verify the matches geometrically.

    Args:
        camera_model: one of `colmap.CAMERA_MODELS`.
        camera_mode: which photos share a camera, as in `colmap.group_cameras`.
        seed: of RANSAC.
        threads: -1 for all cores.
    """
    from tpsfm import colmap

    photos = _photos(workspace)
    pairs = _pairs(workspace, photos)
    matched = workspace.manifest["stages"].get("match")
    if matched is None:
        raise TpsfmError(f"{workspace.root}: nothing is matched yet; run 'tpsfm match' first")
    key = digest([matched["key"], sorted(photos.items()), camera_model, camera_mode, seed])
    if workspace.is_done("verify", key) and workspace.database.exists():
        return
    start = time.perf_counter()
    workspace.start("verify")
    infos = _infos(workspace, sorted(photos))
    cameras = colmap.group_cameras(infos, camera_mode)
    with FeatureStore(workspace.features) as features, MatchStore(workspace.matches) as matches:
        rows = ((a, b, matches.read(a, b)[0]) for a, b in pairs)
        colmap.build_database(workspace.database, infos, cameras, features.read_keypoints, rows, camera_model)
    with (progress or Quiet()).bar("geometry", len(pairs)) as update:
        inliers = colmap.verify_matches(workspace.database, seed, threads, update)
    counts = {"pairs": sum(n > 0 for n in inliers.values()), "inliers": sum(inliers.values())}
    _finish(workspace, "verify", key, start, len(pairs), counts | {"cameras": len(set(cameras.values()))})


def build_map(
    workspace: Workspace, mapper: str = "incremental", seed: int = 0, threads: int = -1, progress: Quiet | None = None
) -> None:
    """Reconstruct cameras and points from the verified matches.

    Args:
        mapper: one of `MAPPERS`.
        seed: the same seed gives the same map.
        threads: -1 for all cores.

    Raises:
        TpsfmError: no pair of photos could start a map.
    """
    from tpsfm import colmap

    verified = workspace.manifest["stages"].get("verify")
    if verified is None:
        raise TpsfmError(f"{workspace.root}: no matches are verified yet; run 'tpsfm map'")
    if mapper not in MAPPERS:
        raise TpsfmError(f"no mapper named '{mapper}'; there are: {', '.join(MAPPERS)}")
    key = digest([verified["key"], mapper, seed])
    if workspace.is_done("map", key) and (workspace.sparse / "images.bin").exists():
        return
    start = time.perf_counter()
    workspace.start("map")
    images = Path(workspace.manifest["images"])
    photos = len(_photos(workspace))
    with (progress or Quiet()).bar("map", photos) as update:
        if mapper == "global":
            models = colmap.reconstruct_global(workspace.database, images, workspace.sparse, seed, threads)
        else:
            models = colmap.reconstruct_incremental(
                workspace.database, images, workspace.sparse, seed, threads, lambda done: update(done, photos)
            )
    _finish(workspace, "map", key, start, 1, {"models": len(models)})


def _finish(workspace: Workspace, stage: str, key: str, start: float, work: int, counts: dict) -> None:
    """Record a stage; one that found all its work done keeps the time that it once took."""
    before = workspace.manifest["stages"].get(stage)
    if not work and before is not None and before["key"] == key:
        return
    workspace.finish(stage, key, time.perf_counter() - start, **counts)


def _photos(workspace: Workspace) -> dict[str, str]:
    """The keys of the photos' features by name."""
    photos = workspace.manifest.get("photos")
    if not photos:
        raise TpsfmError(f"{workspace.root}: no features are extracted yet; run 'tpsfm extract' first")
    return photos


def _pairs(workspace: Workspace, photos: dict[str, str]) -> list[pairing.Pair]:
    if not workspace.pairs.exists():
        raise TpsfmError(f"{workspace.root}: no pairs are chosen yet; run 'tpsfm pairs' first")
    return pairing.read_pairs(workspace.pairs, photos)


def _infos(workspace: Workspace, names: Iterable[str]) -> dict[str, Photo]:
    """The photos' records: those that `extract` kept, else read again."""
    images = Path(workspace.manifest["images"])
    kept = kept_photos(workspace.photos, images)
    return {name: kept.get(name) or read_photo(images / name, name) for name in names}


def _positions(infos: dict[str, Photo]) -> np.ndarray:
    """Metres east, north, up of each photo [N, 3], NaN where its EXIF data has no position."""
    unknown = (np.nan,) * 3
    gps = np.array([info.gps or unknown for info in infos.values()], float).reshape(-1, 3)
    return pairing.gps_to_metres(*gps.T)

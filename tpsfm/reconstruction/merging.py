"""Two maps made one: by the points that photos of both show, else by GPS."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.colmap import group_cameras, possible_groups, read_model, read_observations
from tpsfm.errors import TpsfmError
from tpsfm.features.store import FeatureStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs.selection import Pair, canonical, exhaustive, read_pairs, write_pairs
from tpsfm.photos import PhotoCatalog, kept_photos
from tpsfm.progress import Progress
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.opening import image_folder
from tpsfm.reconstruction.pairs import EXHAUSTIVE_UP_TO, Pairing
from tpsfm.reconstruction.parts import MIN_POINTS, Part, map_placed, place, union
from tpsfm.reconstruction.report import write_results
from tpsfm.reconstruction.stage import photo_keys, photo_records

_MAX_SEAM = 2.0  # times the reprojection error of all points, of those that photos of both maps show

log = logging.getLogger("tpsfm")


def merge(first: str | Path, second: str | Path | None, out: str | Path, progress: Progress | None = None) -> Workspace:
    """Make one map of those of two workspaces, or of the models of one, in a new workspace.

    Photos of both are matched with each other. The second map is moved to the first by the similarity that most of the
    points agree with that photos of both show, a photo that both have included; where there are none, by GPS. Then all
    points are made anew, and everything is adjusted.

    Args:
        first, second: workspaces of the same features; the result is in the frame of the first. None: the models of
            the first alone.
        out: a new folder; it has links to the photos.

    Raises:
        TpsfmError: a map or what it was made from is missing, the features differ, the maps show too little in common
            or don't agree where they meet; `out` is not there then.
    """
    from tpsfm.colmap.verification import verified_matches

    roots = [Path(root) for root in (first, second) if root is not None]
    workspaces = [Workspace.open(root) for root in roots]
    for workspace in workspaces:
        _check(workspace, workspaces[0])
    if Path(out).exists() and any(Path(out).iterdir()):
        raise TpsfmError(f"{out} holds files already; name a new folder")
    progress = progress or Progress()
    with _built(Path(out)) as workspace:
        stages = Stages.recorded(workspaces[0], poses=None, gps=None, gcp=None, gcp_check=None)
        stages.record(workspace, workspace.root / "images")
        parts = _collect(workspaces, workspace)
        if len(parts) < 2:
            raise TpsfmError(f"{roots[0]} has one model only; name the workspace of another map, too")
        _pair(workspaces, workspace, parts, stages, progress)
        stages.matching.run(workspace, progress)
        stages.verification.run(workspace, progress)
        start = time.perf_counter()
        names = sorted({name for part in parts for name in part.model.images})
        placed = place(parts, verified_matches(workspace.database, names))
        photos, mode = photo_records(workspace, names), stages.verification.camera_mode
        camera_of = group_cameras(photos, mode)
        for group in possible_groups(photos) if mode == "auto" else ():
            camera_of |= dict.fromkeys(group, camera_of[group[0]])
        map_placed(union(placed, camera_of), workspace)
        seam = _check_seam(placed, workspace)
        counts = {"models": 1, "mapper": "merged", **seam}
        seconds = time.perf_counter() - start
        workspace.finish(Mapping.name, stages.mapping.key(workspace), seconds, **counts)  # `tpsfm map` keeps it
        stages.alignment.run(workspace, progress)
        stages.georeference.run(workspace, progress)
        write_results(workspace)
    if any(one.manifest["options"].get(key) for one in workspaces for key in ("gps", "gcp")):
        log.warning("the positions given for the maps are not those of %s; give it them: tpsfm map %s --gps", out, out)
    return workspace


def _check(workspace: Workspace, first: Workspace) -> None:
    """Whatever can be told before the work."""
    root = workspace.root
    for file, what in ((workspace.sparse / "images.bin", "map"), (workspace.database, "matches")):
        if not file.exists():
            raise TpsfmError(f"{root} has no {what} ({file.name}); run 'tpsfm reconstruct' on it first")
    photo_keys(workspace)
    image_folder(workspace)
    with FeatureStore(first.features) as one, FeatureStore(workspace.features) as other:
        if one.extractor != other.extractor:
            raise TpsfmError(
                f"{first.root} and {root} have other features, weights or limits of keypoints; reconstruct one of them"
                " with the options of the other"
            )


@contextmanager
def _built(out: Path) -> Iterator[Workspace]:
    """A new workspace, locked; it is removed where it isn't finished."""
    workspace = Workspace.open(out, create=True)
    with workspace.locked():
        try:
            yield workspace
        except BaseException:
            shutil.rmtree(workspace.root, ignore_errors=True)
            raise


def _collect(workspaces: list[Workspace], out: Workspace) -> list[Part]:
    """Put links to the photos, their features and records into the new workspace; returns the maps, renamed."""
    keys: dict[str, str] = {}
    known: dict[str, str] = {}  # new names by content
    turns: dict[str, int] = {}
    parts = []
    shutil.copyfile(workspaces[0].features, out.features)
    for number, workspace in enumerate(workspaces):
        own = photo_keys(workspace)
        images = image_folder(workspace)
        content = {name: photo.digest for name, photo in kept_photos(workspace.photos, images).items()}
        new_name = {name: known.get(content.get(name, ""), "") or _unused(name, keys, workspace) for name in own}
        with FeatureStore(workspace.features) as source, FeatureStore(out.features, "a") as store:
            for name, new in new_name.items():
                if new not in keys:
                    _link(images / name, out.root / "images" / new)
                    if number:
                        store.write(new, source.read(name), own[name])
        same = {name for name, new in new_name.items() if keys.setdefault(new, own[name]) == own[name]}
        known |= {content[name]: new for name, new in new_name.items() if name in content}
        turns = {new_name[name]: turn for name, turn in workspace.manifest.get("turns", {}).items()} | turns
        folders = [workspace.sparse]
        if len(workspaces) == 1:
            folders += sorted(workspace.sparse.glob("[0-9]*"), key=lambda folder: int(folder.name))
        for folder in folders:
            model, observations = read_model(folder), read_observations(folder)
            images_of = {new_name[name]: pose for name, pose in model.images.items()}
            points_of = {new_name[name]: rows for name, (_, rows) in observations.items() if name in same}
            parts.append(Part(str(folder), replace(model, images=images_of), points_of, folder))
        workspace.manifest["renamed"] = {name: new_name[name] for name in same}  # in memory only, for the pairs
    with PhotoCatalog(out.root / "images", out.photos) as catalog:
        for name in catalog.names:
            catalog[name]
    out.manifest |= {"photos": keys, "unreadable": {}, "turns": turns, "merges": [str(w.root) for w in workspaces]}
    out.finish(Extraction.name, digest(sorted(keys.items())), 0.0, photos=len(keys))
    return parts


def _unused(name: str, taken: dict[str, str], workspace: Workspace) -> str:
    """The name of a photo, below its workspace's name where another photo has it."""
    while name in taken:
        name = f"{workspace.root.name}/{name}"
    return name


def _link(photo: Path, name: Path) -> None:
    """A link to a photo, or a copy where there are no links."""
    if not photo.exists():
        return
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(photo.resolve(), name)
    except OSError:
        shutil.copyfile(photo, name)


def _pair(workspaces: list[Workspace], out: Workspace, parts: list[Part], stages: Stages, progress: Progress) -> None:
    """Write the pairs of all maps and those across, and the matches that there are."""
    from tpsfm.colmap import PairTable

    photos = photo_keys(out)
    part_of = {name: number for number, part in reversed(list(enumerate(parts))) for name in part.model.images}
    if len(part_of) <= EXHAUSTIVE_UP_TO:
        pairs = exhaustive(sorted(part_of))
    else:
        Pairing.of({**stages.options, "pairs": "retrieval"}).run(out, progress)
        pairs = read_pairs(out.pairs, photos)
    across = [(a, b) for a, b in pairs if part_of.get(a) != part_of.get(b)]
    inside: list[Pair] = []
    matches: dict[Pair, np.ndarray] = {}
    for workspace in workspaces:
        new_name = workspace.manifest["renamed"]
        with PairTable(workspace.database) as table:
            for a, b in table.matched():
                if a in new_name and b in new_name:
                    pair = new_name[a], new_name[b]
                    rows = table.read((a, b))
                    inside.append(pair)
                    matches[min(pair), max(pair)] = rows if pair[0] < pair[1] else rows[:, ::-1]
    chosen = canonical([*inside, *across])
    write_pairs(out.pairs, chosen)
    out.finish(Pairing.name, digest(chosen), 0.0, pairs=len(chosen), method="merged")
    matcher = stages.matching.create_matcher(stages.features.extractor_class)
    keys = stages.matching.keys_of(matches, photos, matcher)
    with PairTable(out.database, create=True) as table:
        table.retain(photos, keys)
        for found, rows in matches.items():
            table.write(found, rows, keys[found])


def _check_seam(placed: list[Part], out: Workspace) -> dict[str, Any]:
    """Figures of the points that photos of several parts show.

    Raises:
        TpsfmError: they don't agree.
    """
    model, observations = read_model(out.mapped), read_observations(out.mapped)
    sides = np.zeros((len(placed), len(model.points)), bool)
    count = {name: sum(name in part.model.images for part in placed) for name in model.images}
    for side, part in enumerate(placed):
        for name in part.model.images.keys() & observations.keys():
            if count[name] == 1:
                rows = observations[name][1]
                sides[side, rows[rows >= 0]] = True
    seam = sides.sum(0) > 1
    shared = sum(number > 1 for number in count.values())
    error, overall = (float(np.median(model.errors[rows])) if rows.any() else 0.0 for rows in (seam, ~seam))
    if seam.any() and (seam.sum() < MIN_POINTS or error > _MAX_SEAM * max(overall, 0.1)):
        labels = " and ".join(part.label for part in placed)
        raise TpsfmError(
            f"{labels} don't agree where they meet: {seam.sum()} points that photos of both show have a reprojection"
            f" error of {error:.2f} px, all others {overall:.2f} px"
        )
    return {"seam_points": int(seam.sum()), "seam_error": error, "shared_photos": shared}

"""Maps that are to be parts of a larger one: placed in one frame by what their photos have in common."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera, Model, Pose, Sim3
from tpsfm.io.workspace import Workspace
from tpsfm.pairs.selection import Pair
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.stage import chosen_pairs
from tpsfm.reconstruction.world import read_world

MIN_POINTS = 20  # that photos of both maps show and that agree with one similarity
MIN_SHARE = 0.5  # of the points that verified matches connect
_MAX_ERROR = 0.02  # of the distance of the points from the cameras: how far two points that are one may lie apart
_SAME_FOCAL = 0.02  # share by which the focal lengths of one camera differ at most in two maps
_ERRORS = (8.0, 4.0)  # pixels of an observation, round by round
_LOSS, _ITERATIONS, _TOLERANCE = 0.5, 100, 1e-6  # of the adjustment; keypoints as detected are off by half a pixel

log = logging.getLogger("tpsfm")


@dataclass(frozen=True)
class Part:
    """A map that is to be a part of a larger one.

    Attributes:
        label: for the user.
        model: its images have the names that they will have.
        points_of: by name, int64 [K]: the rows of `model.points` that its keypoints show, -1 where none.
        folder: of the model.
    """

    label: str
    model: Model
    points_of: dict[str, np.ndarray]
    folder: Path


def place(parts: list[Part], matches: dict[Pair, np.ndarray]) -> list[Part]:
    """The parts in the frame of the first; of several, those that don't fit are left out, with a warning.

    Args:
        matches: verified ones, [M, 2], of pairs of photos of several parts.

    Raises:
        TpsfmError: none fits the first.
    """
    placed = [parts[0]]
    problems = []
    for part in parts[1:]:
        try:
            transform = _similarity(placed, part, matches)
            placed.append(replace(part, model=_moved(part.model, transform)))
        except TpsfmError as problem:
            problems.append(str(problem))
            log.warning("not merged: %s", problem)
    if len(placed) == 1:
        raise TpsfmError(problems[0])
    return placed


def _similarity(placed: list[Part], part: Part, matches: dict[Pair, np.ndarray]) -> Sim3:
    """From the frame of a part to that of the placed ones."""
    from tpsfm.colmap.similarity import robust_similarity

    here, there, depths = _common_points(placed, part, matches)
    whole, label = placed[0].label, part.label
    if len(here) < MIN_POINTS:
        transform = by_gps(placed[0].folder, part.folder)
        if transform is None:
            raise TpsfmError(
                f"photos of {whole} and {label} show {len(here)} points in common, too few to merge these maps;"
                " take photos that connect them"
            )
        log.warning("%s and %s show nothing in common: placed by GPS alone, which nothing checks", whole, label)
        return transform
    limit = _MAX_ERROR * float(np.median(depths))
    transform, agree = robust_similarity(here, there, limit)
    if agree.sum() < MIN_POINTS or agree.mean() < MIN_SHARE:
        raise TpsfmError(
            f"{whole} and {label} don't fit each other: {agree.sum()} of the {len(agree)} points that photos of both"
            " show agree; one may be wrong or bent, or they show two places that look alike"
        )
    log.info("%s joins %s by %d of %d common points", label, whole, agree.sum(), len(agree))
    return transform


def _common_points(
    placed: list[Part], part: Part, matches: dict[Pair, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of a part and of the placed ones that are shown by one keypoint, or by two that match.

    Returns:
        float64 [N, 3] of the part, [N, 3] of the others, and [N], the distance of these from a camera that sees them.
    """
    here, there, depths = [np.empty((0, 3))], [np.empty((0, 3))], [np.empty(0)]
    for other in placed:
        shared = part.points_of.keys() & other.points_of.keys()
        rows = [(name, name, np.arange(len(part.points_of[name])).repeat(2).reshape(-1, 2)) for name in sorted(shared)]
        rows += [(a, b, indices) for (a, b), indices in matches.items()]
        rows += [(b, a, indices[:, ::-1]) for (a, b), indices in matches.items()]
        pairs = set()
        for own, others, indices in rows:
            if own in part.points_of and others in other.points_of:
                mine, theirs = part.points_of[own][indices[:, 0]], other.points_of[others][indices[:, 1]]
                both = (mine >= 0) & (theirs >= 0)
                pairs |= {(m, t, others) for m, t in zip(mine[both].tolist(), theirs[both].tolist(), strict=True)}
        unique = {(m, t): name for m, t, name in sorted(pairs)}
        if unique:
            mine, theirs = np.array(list(unique)).T
            here.append(part.model.points[mine])
            there.append(other.model.points[theirs])
            centers = np.array([other.model.images[name].center for name in unique.values()])
            depths.append(np.linalg.norm(there[-1] - centers, axis=1))
    return np.concatenate(here), np.concatenate(there), np.concatenate(depths)


def by_gps(first: Path, second: Path) -> Sim3 | None:
    """From the frame of the second map to that of the first, where both are in metres about an origin."""
    worlds = [read_world(folder) for folder in (first, second)]
    if worlds[0] is None or worlds[1] is None:
        return None
    to_first, from_second = np.linalg.inv(worlds[0]["ecef_from_enu"]), np.array(worlds[1]["ecef_from_enu"])
    matrix = to_first @ from_second
    return Sim3(1.0, matrix[:3, :3], matrix[:3, 3])


def _moved(model: Model, transform: Sim3) -> Model:
    images = {}
    for name, pose in model.images.items():
        rotation = pose.rotation @ transform.rotation.T
        images[name] = replace(pose, rotation=rotation, translation=-rotation @ transform(pose.center))
    return replace(model, images=images, points=transform(model.points))


def union(placed: list[Part], camera_of: Mapping[str, int]) -> Model:
    """Cameras and poses of all; a photo that several have is where the first has it.

    Args:
        camera_of: which camera took each photo, by name: where those of several parts are one, and their focal lengths
            agree, they become one.
    """
    cameras: dict[int, Camera] = {}
    images: dict[str, Pose] = {}
    known: dict[int, int] = {}  # numbers of the new cameras by `camera_of`
    for part in placed:
        number = {}
        own: dict[int, int] = {}
        for key, camera in sorted(part.model.cameras.items()):
            taken = {camera_of[name] for name, pose in part.model.images.items() if pose.camera_id == key}
            others = (known[one] for one in sorted(taken & known.keys()))
            number[key] = next((n for n in others if _alike(cameras[n], camera)), len(cameras) + 1)
            cameras.setdefault(number[key], camera)
            own |= dict.fromkeys(taken, number[key])
        known = own | known
        moved = {n: Pose(number[p.camera_id], p.rotation, p.translation) for n, p in part.model.images.items()}
        images = moved | images
    used = {pose.camera_id for pose in images.values()}
    cameras = {key: camera for key, camera in cameras.items() if key in used}
    return Model.of_cameras(cameras, dict(sorted(images.items())))


def _alike(one: Camera, other: Camera) -> bool:
    kinds = [(camera.model, camera.width, camera.height) for camera in (one, other)]
    return kinds[0] == kinds[1] and abs(one.matrix[0, 0] / other.matrix[0, 0] - 1) < _SAME_FOCAL


def union_of_one_run(placed: list[Part]) -> Model:
    """As `union`, of parts whose cameras of one id are the same: it is as the part of the most photos has it."""
    cameras: dict[int, Camera] = {}
    images: dict[str, Pose] = {}
    for part in reversed(placed):
        images |= part.model.images
    for part in sorted(placed, key=lambda part: len(part.model.images)):
        cameras |= part.model.cameras
    used = {pose.camera_id for pose in images.values()}
    return Model.of_cameras({key: cameras[key] for key in sorted(used)}, dict(sorted(images.items())))


def map_placed(known: Model, workspace: Workspace) -> None:
    """Triangulate all matches by cameras that were placed, and adjust these, into a workspace's `mapped`.

    Maps that were made apart may be bent, so they are adjusted until nothing moves; the error that is allowed falls to
    COLMAP's in the last round.
    """
    from tpsfm import colmap
    from tpsfm.reconstruction.mapping import Mapping as Mapper
    from tpsfm.reconstruction.mapping import dropped_pairs, triangulate

    size = max(max(camera.width, camera.height) for camera in known.cameras.values())
    scale = max(1.0, size / Extraction.recorded(workspace).max_size)
    dropped = {(first, second) for first, second in dropped_pairs(workspace)}
    pairs = [pair for pair in chosen_pairs(workspace) if known.images.keys() >= set(pair) and pair not in dropped]
    new = workspace.root / "merged.new"
    mapping = Mapper.recorded(workspace)
    for error in _ERRORS:
        triangulate(workspace, known, workspace.mapped, pairs, mapping.seed, mapping.threads, max_error=error * scale)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        colmap.refine_model(
            workspace.mapped, new, {}, 2 * scale, loss=_LOSS, iterations=_ITERATIONS, tolerance=_TOLERANCE
        )
        known = read_model(new)
    shutil.rmtree(workspace.mapped)
    new.rename(workspace.mapped)

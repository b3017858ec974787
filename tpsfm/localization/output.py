"""What localization leaves on disk: poses.txt and localization.json."""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tpsfm import __version__
from tpsfm.errors import TpsfmError
from tpsfm.geometry.model import Camera, Model, Pose, quaternion
from tpsfm.io.workspace import Workspace
from tpsfm.localization.intrinsics import check_parameters
from tpsfm.localization.pose import Localization
from tpsfm.reconstruction.report import map_digest

if TYPE_CHECKING:
    from tpsfm.localization.map import Map

POSES, RECORD, PAGE = "poses.txt", "localization.json", "localization.html"
_AS_THEY_ARE = ("name", "status", "reason", "camera_source", "inliers", "ratio", "retrieved", "best_image", "seconds")


def make_folder(out: Path) -> None:
    """Make the folder of the results where it is missing.

    Raises:
        TpsfmError: the results can't be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise TpsfmError(f"can't write to '{out}': {error.strerror}; name another folder with --out") from error
    for name in (POSES, RECORD, PAGE):
        if (out / name).is_dir():
            raise TpsfmError(f"can't write '{out / name}': it is a folder; name another folder with --out")


def write_results(out: Path, loaded: Map, queries: Path, results: list[Localization]) -> None:
    """Write `out`/poses.txt and `out`/localization.json, each whole or not at all.

    poses.txt has a row `name qw qx qy qz tx ty tz` (world to camera) for each localized query, as the Aachen benchmark
    wants it; a query that failed is only in localization.json, with its reason.

    Raises:
        TpsfmError: a file can't be written.
    """
    localized = [result for result in results if result.pose is not None]
    rows = [" ".join([result.name, *map(repr, _numbers(result.pose))]) for result in localized]
    content = {
        "tpsfm": __version__,
        "map": str(loaded.workspace.root.resolve()),
        "map_digest": loaded.digest,
        "queries": str(queries.resolve()),
        "localized": len(localized),
        "failed": len(results) - len(localized),
        "results": [to_record(result) for result in results],
    }
    write_text(out / POSES, "".join(f"{row}\n" for row in rows))
    write_text(out / RECORD, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_queries(results: str | Path, workspace: Workspace) -> tuple[Model, Path]:
    """The localized queries of a results folder as a model without points, in the workspace's map, and their folder.

    Raises:
        TpsfmError: there are no results, they are damaged, or of another map.
    """
    path = Path(results) / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [from_record(entry) for entry in content["results"]]
        folder, root, made = Path(content["queries"]), content["map"], content["map_digest"]
    except OSError as error:
        raise TpsfmError(f"no results in {results}: {path.name}: {error.strerror}; run 'tpsfm localize'") from error
    except (ValueError, KeyError, TypeError, TpsfmError):
        raise TpsfmError(f"{path} is damaged; run 'tpsfm localize' again") from None
    if made != map_digest(workspace):
        other = "as it was before" if root == str(workspace.root.resolve()) else f"in {root}"
        raise TpsfmError(
            f"the poses in {results} are of another map ({other}) than that in {workspace.root}; run 'tpsfm localize'"
            f" with this one"
        )
    localized = [result for result in found if result.pose is not None]
    images = {
        result.name: replace(result.pose, camera_id=number, observations=result.inliers)
        for number, result in enumerate(localized)
    }
    return Model.of_cameras({number: result.camera for number, result in enumerate(localized)}, images), folder


def write_text(path: Path, text: str) -> None:
    """Write a file in place of any that is there, whole or not at all.

    Raises:
        TpsfmError: it can't be written.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(text, encoding="utf-8", errors="replace")
        os.replace(partial, path)
    except OSError as error:
        raise TpsfmError(f"can't write '{path}': {error.strerror}") from error


def _numbers(pose: Pose) -> list[float]:
    return [float(value) for value in (*quaternion(pose.rotation), *pose.translation)]


def to_record(result: Localization) -> dict:
    """What localization.json tells of a query: all but its matches and lines, as JSON values."""
    pose = result.pose
    return {
        "name": result.name,
        "status": result.status,
        "reason": result.reason,
        "pose": None
        if pose is None
        else {
            "quaternion_wxyz": _numbers(pose)[:4],
            "translation": pose.translation.tolist(),
            "rotation": pose.rotation.tolist(),
            "center": pose.center.tolist(),
        },
        "camera": None if result.camera is None else asdict(result.camera),
        "camera_source": result.camera_source,
        "inliers": result.inliers,
        "ratio": round(result.ratio, 4),
        "position_uncertainty": _finite(result.position_uncertainty),
        "rotation_uncertainty_degrees": _finite(result.rotation_uncertainty),
        "covariance": None if result.covariance is None else result.covariance.tolist(),
        "retrieved": result.retrieved,
        "best_image": result.best_image,
        "seconds": {step: round(seconds, 4) for step, seconds in result.seconds.items()},
    }


def from_record(entry: dict) -> Localization:
    """The query that `to_record` told of; ValueError, KeyError, TypeError or TpsfmError where the record is damaged."""
    given = {key: entry[key] for key in _AS_THEY_ARE}
    if entry["pose"] is None:
        return Localization(**given)
    rotation = np.array(entry["pose"]["rotation"], float).reshape(3, 3)
    translation = np.array(entry["pose"]["translation"], float).reshape(3)
    covariance = np.array(entry["covariance"], float).reshape(6, 6)
    camera = Camera(**entry["camera"])
    params = check_parameters(camera.model, camera.params, RECORD)
    if not np.isfinite([*rotation.flat, *translation]).all() or min(camera.width, camera.height) < 1:
        raise ValueError
    return Localization(
        **given,
        pose=Pose(0, rotation, translation),
        camera=replace(camera, params=params),
        position_uncertainty=entry["position_uncertainty"],
        rotation_uncertainty=entry["rotation_uncertainty_degrees"],
        covariance=covariance,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""Localize held-out photos by day and by synthetic night, foreign photos, and one at dusk; beside COLMAP's SIFT.

    python -m pipelines.localization --data DIR --features tpr --features sift --features colmap --out results/loc

DIR holds sets SCENE/images/, some with SCENE/gt.json (image name -> R, world to camera, and C, the centre). For each
such set a map is built from all but every fourth photo, and the held-out photos are localized in it, as they are and
darkened to night (`evaluation/night.py`); there are four folds, of which `--folds` are used. The map is aligned with
the known poses of its photos. "within" is the share within a fraction of the greatest distance between two cameras and
an angle; a photo without a pose counts as wrong there and in the medians. In the first map of each set, photos of the
other sets are tried, too: none should get a pose. Poses from COLMAP's matches are estimated by the same code as ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

import tpsfm
from pipelines.chains import CHAINS, Limits
from pipelines.common import Pipeline, Results, in_process, weights_version
from tpsfm.cli.options import options
from tpsfm.colmap import read_model
from tpsfm.evaluation.localization import THRESHOLDS, accuracy, extent, localization_errors
from tpsfm.evaluation.night import night
from tpsfm.evaluation.poses import load_poses
from tpsfm.geometry import Pose
from tpsfm.localization.acceptance import occupied_cells, rejection_reason
from tpsfm.localization.estimation import estimate
from tpsfm.localization.intrinsics import intrinsics_of
from tpsfm.photos import list_images, read_image, read_photo

FOLDS = (3, 0, 1, 2)  # index of the first held-out photo
FOREIGN = 20
STEPS = ("read", "extract", "retrieve", "match", "pose")
WITHIN = {f"within {100 * most:g} %, {degrees}°": (most, degrees) for most, degrees in THRESHOLDS}

Found = dict[str, tuple[Pose | None, int, Mapping[str, float]]]
"""By query: its pose, its inliers, and seconds by step."""


def ours(features: str, root: Path, folders: list[str], limits: Limits) -> tuple[Path, dict[str, Found]]:
    """Map root/map and localize the photos of other folders in it.

    Returns:
        The map's folder, and what was found by folder.
    """
    workspace = tpsfm.reconstruct(root / "map", root / "out", **limits.options(features))
    loaded = tpsfm.Map(workspace.root)
    found: dict[str, Found] = {folder: {} for folder in folders}
    for folder in folders:
        for name in list_images(root / folder):
            result = loaded.localize(root / folder / name, name=name)
            found[folder][name] = result.pose, result.inliers, result.seconds
    return workspace.sparse, found


def colmaps(root: Path, folders: list[str], limits: Limits) -> tuple[Path, dict[str, Found]]:
    """As `ours`, by COLMAP's features, matches and mapper."""
    from tpsfm.colmap.baseline_localization import sift_map_and_matches

    mapped = [f"map/{name}" for name in list_images(root / "map")]
    queries = [f"{folder}/{name}" for folder in folders for name in list_images(root / folder)]
    limited = (limits.max_keypoints, limits.max_size, limits.threads, limits.seed)
    sparse, matches = sift_map_and_matches(root, mapped, queries, root / "out", *limited)
    model = read_model(sparse)
    known = {(camera.width, camera.height): camera for camera in model.cameras.values()}
    found: dict[str, Found] = {folder: {} for folder in folders}
    for query in queries:
        folder, name = query.split("/", 1)
        photo = read_photo(root / query)
        size = photo.size
        same = {photo.camera_key: known[size]} if photo.camera_key and size in known else {}
        keypoints, points = matches[query]
        scale = max(1.0, max(size) / limits.max_size)
        ways = intrinsics_of(photo, None, known | same)
        poses = [estimate(keypoints, points, way, scale, limits.seed) for way in ways]
        pose = max((pose for pose in poses if pose), key=lambda pose: pose.inliers.sum(), default=None)
        inliers = 0 if pose is None else int(pose.inliers.sum())
        rejected = pose is None or rejection_reason(
            inliers, len(points), occupied_cells(keypoints[pose.inliers], pose.camera)
        )
        found[folder][name] = None if pose is None or rejected else pose.pose, inliers, {}
    return sparse, found


def localize(features: str, root: Path, limits: Limits) -> tuple[Path, dict[str, Found]]:
    """As `ours`, for all folders of `root` but the map's."""
    folders = sorted(folder.name for folder in root.iterdir() if folder.name != "map")
    return colmaps(root, folders, limits) if features == "colmap" else ours(features, root, folders, limits)


def put(folder: Path, photos: dict[str, Path], dark: bool = False) -> None:
    """Link photos into a folder, or write them there darkened to night, with their EXIF data."""
    folder.mkdir()
    for seed, (name, path) in enumerate(photos.items()):
        if not dark:
            (folder / name).symlink_to(path.resolve())
            continue
        with Image.open(path) as image:
            exif = image.info.get("exif", b"")
        Image.fromarray(night(read_image(path), seed)).save(folder / name, quality=95, subsampling=0, exif=exif)


def hold_out(features: str, scene: Path, fold: int, foreign: dict[str, Path], limits: Limits) -> dict:
    """One fold of one set."""
    names = list_images(scene / "images")
    held = names[fold::4]
    truth = load_poses(scene / "gt.json")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        photos = {name: scene / "images" / name for name in names}
        put(root / "map", {name: path for name, path in photos.items() if name not in held})
        put(root / "day", {name: photos[name] for name in held})
        put(root / "night", {name: photos[name] for name in held}, dark=True)
        if foreign:
            put(root / "foreign", foreign)
        (sparse, found), _ = in_process(localize, features, root, limits)
        mapped = {name.removeprefix("map/"): pose for name, pose in read_model(sparse).images.items()}
    row: dict[str, Any] = {}
    for light in ("day", "night"):
        poses = {name: pose for name, (pose, _, _) in found[light].items()}
        position, rotation = localization_errors(truth, mapped, poses)
        row[light] = {
            "position": (position / extent(truth)).tolist(),
            "rotation": rotation.tolist(),
            "inliers": [inliers for _, inliers, _ in found[light].values()],
            "seconds": {step: [s.get(step) for _, _, s in found[light].values()] for step in STEPS},
        }
    row["foreign"] = [name for name, (pose, _, _) in found.get("foreign", {}).items() if pose is not None]
    return row


def summary(rows: list[dict], light: str) -> dict:
    """A line of the table from a set's folds."""
    position, rotation = (np.array([np.inf if x is None else x for row in rows for x in row[light][key]], float)
                          for key in ("position", "rotation"))  # fmt: skip
    shares = accuracy(position, rotation, list(WITHIN.values()))
    line: dict[str, float | None] = {
        "queries": len(position),
        "localized": int(np.isfinite(position).sum()),
        "position %": 100 * float(np.median(position)),
        "rotation °": float(np.median(rotation)),
        "inliers": float(np.median([x for row in rows for x in row[light]["inliers"]])),
        **{name: 100 * share for name, share in zip(WITHIN, shares, strict=True)},
    }
    for step in STEPS:
        seconds = [x for row in rows for x in row[light]["seconds"][step] if x is not None]
        line[f"{step} s"] = float(np.median(seconds)) if seconds else None
    return line


def at_dusk(features: str, scene: Path, dusk: str, limits: Limits) -> dict:
    """One photo of a set localized in the map of the others."""
    names = list_images(scene / "images")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        put(root / "map", {name: scene / "images" / name for name in names if name != dusk})
        put(root / "dusk", {dusk: scene / "images" / dusk})
        (sparse, found), _ = in_process(localize, features, root, limits)
        pose, inliers, _ = found["dusk"][dusk]
        return {"localized": int(pose is not None), "inliers": inliers, "photos in map": len(read_model(sparse).images)}


def others(data: Path, scene: Path) -> dict[str, Path]:
    """Up to `FOREIGN` photos of the other sets, evenly spaced."""
    paths = [
        folder / "images" / name
        for folder in sorted(data.iterdir())
        if (folder / "images").is_dir() and folder != scene
        for name in list_images(folder / "images")
    ]
    chosen = [paths[int(i)] for i in np.linspace(0, len(paths) - 1, min(FOREIGN, len(paths)))]
    return {f"{path.parent.parent.name}_{path.name}": path for path in chosen}


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@options(CHAINS)
@click.option("--folds", type=click.IntRange(1, 4), default=4, show_default=True)
@click.option("--dusk", help="SCENE/PHOTO to localize in the map of that set's other photos.")
def main(
    data: Path, features: tuple[str, ...], scenes: tuple[str, ...], folds: int, dusk: str, out: Path, **limited: Any
) -> None:
    limits = Limits(**limited)
    chosen = [data / name for name in scenes] or sorted(path.parent for path in data.glob("*/gt.json"))
    if not chosen or not all((scene / "gt.json").exists() for scene in chosen):
        raise tpsfm.TpsfmError(f"{data}: no set with images/ and gt.json there")
    results = Results(out, "Localization", limited | {"weights": weights_version(limits.weights)})
    kept: dict[tuple[str, str], list[dict]] = {}
    for scene in chosen:
        for fold in FOLDS[:folds]:
            for name in features:
                foreign = others(data, scene) if fold == FOLDS[0] and name != "colmap" else {}
                key = f"{scene.name}, {name}, every fourth from {fold}"
                row = results.row(key, partial(hold_out, name, scene, fold, foreign, limits))
                kept.setdefault((scene.name, name), []).append(row)
    lines = {
        f"{scene}, {light}, {name}": summary(rows, light)
        for light in ("day", "night")
        for (scene, name), rows in kept.items()
    }
    for light in ("day", "night"):
        for name in features:
            lines[f"all, {light}, {name}"] = summary(
                [row for (_, n), rows in kept.items() if n == name for row in rows], light
            )
    results.table(
        {"queries": "d", "localized": "d", "position %": ".3f", "rotation °": ".3f", **dict.fromkeys(WITHIN, ".1f")},
        lines,
    )
    for (set_name, name), rows in kept.items():
        if name != "colmap":
            wrong = rows[0]["foreign"]
            tried = len(others(data, data / set_name))
            results.say(f"{set_name}, {name}: {len(wrong)} of {tried} foreign photos got a pose. {' '.join(wrong)}")
    timed = {key: line for key, line in lines.items() if key.startswith("all, day") and "colmap" not in key}
    results.table({f"{step} s": ".3f" for step in STEPS}, timed)
    if dusk:
        set_name, photo = dusk.split("/", 1)
        table = {
            f"{photo}, {name}": results.row(f"{dusk}, {name}", partial(at_dusk, name, data / set_name, photo, limits))
            for name in features
        }
        results.table({"localized": "d", "inliers": "d", "photos in map": "d"}, table)
    results.write()


if __name__ == "__main__":
    main()

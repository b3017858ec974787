"""Results of a reconstruction: figures, files, and why each missing photo is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.features.store import FeatureStore
from tpsfm.geometry import Model, summary
from tpsfm.io.workspace import Workspace, remember_map
from tpsfm.photos import file_digest
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.diagnosis import FROM_ONE_POINT, groups_from_one_point, why_left_out
from tpsfm.reconstruction.lookalikes import Lookalikes
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.panoramas import record_panoramas
from tpsfm.reconstruction.verification import Verification
from tpsfm.reconstruction.world import read_georeference
from tpsfm.view.report import write_report

SHOWN = 20  # pairs of look-alikes, the worst; positions left out


def write_results(workspace: Workspace) -> None:
    """After mapping: write points, report and figures, and remember the map as the last one.

    Raises:
        TpsfmError: there is no map.
    """
    models = workspace.manifest["stages"][Mapping.name]["counts"]["models"]
    folders = [workspace.of_model(number).sparse for number in range(models)]
    registered = [name for folder in folders for name in read_model(folder).images]
    workspace.manifest["left_out"] = diagnose(workspace, registered)
    if not models:
        workspace.manifest.pop("result", None)
        workspace.save()
        workspace.points.unlink(missing_ok=True)
        write_report(workspace, None)
        raise TpsfmError(_why_no_map(workspace))
    record_map(workspace, len(workspace.manifest["photos"]) + len(workspace.manifest["unreadable"]), folders[1:])


def record_map(workspace: Workspace, photos: int, others: Sequence[Path] = ()) -> None:
    """Write points, report and figures of the map in `sparse`, and remember it as the last one.

    Args:
        photos: how many there were to map.
        others: folders of other models.
    """
    model = read_model(workspace.sparse)
    figures = summary(model)
    further = {folder.name: list(read_model(folder).images) for folder in others}
    elsewhere = {name: number for number, names in further.items() for name in names if name not in model.images}
    workspace.manifest["result"] = {
        "photos": photos,
        "registered": len(figures.pop("registered")),
        **figures,
        "other_models": {number: len(names) for number, names in further.items()},
        "in_other_models": elsewhere,
        "from_one_point": _from_one_point(workspace, model),
        "panoramas": record_panoramas(workspace),
    }
    from tpsfm.colmap.ply import write_ply

    write_ply(model, workspace.points)
    workspace.save()
    remember_map(workspace.root)
    write_report(workspace, model, read_georeference(workspace))


def _from_one_point(workspace: Workspace, model: Model) -> list[list[str]]:
    """Groups of photos of the map that were taken from one point."""
    if not workspace.database.exists():
        return []
    from tpsfm.colmap import photos_from_one_point

    partner = photos_from_one_point(workspace.database, model.images, judged=1)
    return groups_from_one_point(model, partner, workspace.sparse)


def _why_no_map(workspace: Workspace) -> str:
    """One line for the user on a run that found no map."""
    reasons = sorted(workspace.manifest["left_out"].items())
    if 2 * sum(reason.startswith(FROM_ONE_POINT) for _, reason in reasons) > len(workspace.manifest["photos"]):
        return "no map: the photos were taken from one point; a map needs you to move sideways between photos"
    name, reason = reasons[0]
    return (
        f"no map: no two photos could start one ({name}: {reason}); take photos that overlap more, or see"
        f" 'tpsfm info {workspace.root}' for all reasons"
    )


def open_map(root: Path, model: int = 0) -> tuple[Workspace, Model]:
    """A workspace and the map in it.

    Args:
        model: which of its models; 0 is the largest, 1, 2, ... those that don't connect to it.

    Raises:
        TpsfmError: `root` is no workspace, holds no map yet, or not that model.
    """
    workspace = Workspace.open(root)
    if not (workspace.sparse / "images.bin").exists():
        raise TpsfmError(f"{root}: there is no map yet; run 'tpsfm reconstruct' or 'tpsfm map'")
    workspace = workspace.of_model(model)
    if not (workspace.sparse / "images.bin").exists():
        count = len(list((Workspace.open(root).sparse).glob("[0-9]*/images.bin")))
        raise TpsfmError(f"{root}: there is no model {model}; its map has {f'models 0 to {count}' if count else 'one'}")
    return workspace, read_model(workspace.sparse)


def map_digest(workspace: Workspace) -> str:
    """Digest of this build of a workspace's map."""
    return file_digest(workspace.sparse / "images.bin")


def diagnose(workspace: Workspace, registered: list[str]) -> dict[str, str]:
    """The reason by name for each photo that is not registered."""
    photos, unreadable = workspace.manifest["photos"], workspace.manifest["unreadable"]
    names = [*photos, *unreadable]
    if set(names) <= set(registered):
        return {}
    source = workspace.manifest["options"].get("poses")
    if source:
        left_out = [name for name in names if name not in registered]
        return {name: unreadable.get(name, f"no pose of it in {source}") for name in left_out}
    from tpsfm.colmap import PairTable, photos_from_one_point

    with FeatureStore(workspace.features) as features:
        keypoints = {name: features.count(name) for name in photos}
    with PairTable(workspace.database) as table:
        matches, inliers = table.counts()
    partner = photos_from_one_point(workspace.database, set(photos) - set(registered))
    return why_left_out(names, registered, unreadable, keypoints, matches, inliers, partner)


def describe(workspace: Workspace, model: int = 0) -> list[str]:
    """Lines for the user on what is in a workspace, or in one of its smaller models.

    Raises:
        TpsfmError: there is no such model, or the manifest is damaged.
    """
    if model:
        figures = summary(open_map(workspace.root, model)[1])
        return [f"registered          {len(figures['registered'])} photos", *_figures(figures)]
    try:
        return _description(workspace)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise TpsfmError(f"{workspace.run} is damaged ({problem}); run 'tpsfm reconstruct' again") from error


def _description(workspace: Workspace) -> list[str]:
    manifest = workspace.manifest
    lines = []
    result = manifest.get("result")
    if result is None:
        done = [stage.name for stage in Stages.types() if stage.name in manifest["stages"]]
        lines.append(f"{workspace.root}: no map yet; done so far: {', '.join(done) or 'nothing'}")
    else:
        lines += [
            f"registered          {result['registered']} of {result['photos']} photos",
            *_figures(result),
            *_in_the_world(workspace),
            *(f"from one point      {', '.join(group)}" for group in result.get("from_one_point", [])),
            *_panoramas(workspace),
            *_video(manifest),
            *_overlay(manifest),
            *_lookalikes(manifest),
            *_turns(manifest),
            *_mapper(manifest),
            *_exactness(manifest["stages"].get(Alignment.name, {}).get("counts", {})),
        ]
        lines += [
            f"{f'model {number}':19} {count} photos that don't connect to these: --model {number}"
            for number, count in result["other_models"].items()
        ]
    seconds = [
        f"{stage.title} {manifest['stages'][stage.name]['seconds']:.1f} s"
        for stage in Stages.types()
        if stage.name in manifest["stages"]
    ]
    if seconds:
        lines.append(f"time                {', '.join(seconds)}")
    elsewhere = (result or {}).get("in_other_models", {})
    if elsewhere:
        lines.append(f"in other models ({len(elsewhere)}):")
        lines += [f"  {name}: in model {number}" for name, number in elsewhere.items()]
    left_out = manifest.get("left_out", {})
    if left_out:
        lines.append(f"left out ({len(left_out)}):")
        lines += [f"  {name}: {reason}" for name, reason in left_out.items()]
        unmatched = any(reason.startswith("no pair") for reason in left_out.values())
        if unmatched and manifest["options"].get("turned") is False:
            lines.append("photos may be turned against each other: leave --no-turned out to have that looked at")
    return lines


def _figures(result: dict[str, Any]) -> list[str]:
    return [
        f"points              {result['points']:,}",
        f"mean track length   {result['mean_track_length']:.2f}",
        f"reprojection error  {result['reprojection_error']:.2f} px",
    ]


def _panoramas(workspace: Workspace) -> list[str]:
    """The line that tells how many 360-degree photos are in the map; none where it isn't of such."""
    found = workspace.manifest["result"].get("panoramas")
    return [f"panoramas           {found[0]} of {found[1]}, their poses are in {workspace.panoramas}"] if found else []


def _video(manifest: dict[str, Any]) -> list[str]:
    """The line that tells which frames of a video were taken; none where photos were given."""
    counts = manifest["stages"].get("frames", {}).get("counts")
    return (
        [f"frames              {counts['frames']} of {counts['of']} of {manifest['video']['path']}"] if counts else []
    )


def _overlay(manifest: dict[str, Any]) -> list[str]:
    """The line that tells what lies over the photos; none where nothing does."""
    found = manifest["stages"].get(Verification.name, {}).get("counts", {}).get("overlay")
    text = "the same in {photos} photos (a banner, a watermark, a bonnet?): {keypoints:,} keypoints left out"
    return [f"overlay             {text.format(**found)}"] if found else []


def _lookalikes(manifest: dict[str, Any]) -> list[str]:
    """Lines on the pairs of photos that may show two places that look alike; none where there are none."""
    counts = manifest["stages"].get(Lookalikes.name, {}).get("counts", {})
    found, lines = counts.get("conflicts", []), []
    if counts.get("dropped"):
        lines.append(f"look-alikes         {counts['dropped']} pairs of photos of places that look alike are left out")
    if found:
        lines.append(
            f"look-alikes         {len(found)} pairs of photos may show two places that look alike, taken for one:"
        )
    lines += [f"  {a} and {b}: {there} of {tried} points are there" for a, b, tried, there in found[:SHOWN]]
    return lines + [f"  and {len(found) - SHOWN} more, in run.json"] * (len(found) > SHOWN)


def _turns(manifest: dict[str, Any]) -> list[str]:
    """The line that tells how many photos are turned; none where none are."""
    count = len(manifest.get("turns", {}))
    return [f"turned              {count} photos, against the others"] if count else []


def _mapper(manifest: dict[str, Any]) -> list[str]:
    """The line that tells that the map is the global mapper's, though none was asked for."""
    found = manifest["stages"].get("map", {}).get("counts", {}).get("mapper")
    asked = manifest["options"].get("mapper")
    return (
        ["mapper              global: incremental mapping left parts"] if (asked, found) == ("auto", "global") else []
    )


def _exactness(counts: dict[str, Any]) -> list[str]:
    """The line that tells what alignment gave, from its figures; none without it."""
    if not counts:
        return []
    (before, median_before), (after, median_after) = counts["error_before"], counts["error_after"]
    return [
        f"aligned             {before:.2f} -> {after:.2f} px (median {median_before:.2f} -> {median_after:.2f}),"
        f" {100 * counts['kept'] / max(counts['observations'], 1):.0f} % of the observations kept"
    ]


def _in_the_world(workspace: Workspace) -> list[str]:
    """Lines on where the map lies; none where it is in its own frame."""
    content = read_georeference(workspace)
    if content is None:
        return []
    origin, utm, residuals = content["origin"], content["utm"], content["residuals"]
    used = sum(row["used"] for row in residuals)
    by = "GPS positions" if content["method"] == "gps" else "ground control points"
    low, high = np.percentile(read_model(workspace.sparse).points, (1, 99), axis=0)
    size = " x ".join(f"{side:.1f}" for side in high - low)
    lines = [
        f"in the world        {size} m, by {used} of {len(residuals)} {by}: {_rmse(content['rmse'])}",
        f"origin              {origin['latitude']:.7f}, {origin['longitude']:.7f}, {origin['altitude']:.2f} m"
        f" (east, north, up; UTM {utm['zone']}{utm['hemisphere']}, EPSG:{utm['epsg']})",
    ]
    wrong = [row for row in residuals if not row["used"]]
    if wrong:
        off = [
            f"{row['name']} ({np.linalg.norm([row[axis] for axis in ('east', 'north', 'up')]):,.0f} m off)"
            for row in wrong
        ]
        more = f" and {len(off) - SHOWN} more" if len(off) > SHOWN else ""
        lines.append(f"left out            {', '.join(off[:SHOWN])}{more}")
    if "upright" in content:
        by, degrees = content["upright"]["by"], content["upright"]["degrees"]
        lines.append(f"upright             by {by}, to some {degrees:.1g}°: its positions don't tell that")
    if "check_rmse" in content:
        lines.append(f"check points        {len(content['check_points'])}: {_rmse(content['check_rmse'])}")
    return lines


def _rmse(values: dict[str, float | None]) -> str:
    vertical = values["vertical"]
    return f"RMSE {values['horizontal']:.3g} m horizontal" + (
        "" if vertical is None else f", {vertical:.3g} m vertical"
    )


def image_folder(workspace: Workspace) -> Path:
    """Where the photos of a workspace lie.

    Raises:
        TpsfmError: nothing is extracted yet, or the folder is gone.
    """
    folder = workspace.images
    if not folder.is_dir():
        again = "'tpsfm extract'" if workspace.features.exists() else "'tpsfm import'"
        raise TpsfmError(f"{workspace.root}: its photos' folder {folder} is gone; run {again} on the new one")
    return folder

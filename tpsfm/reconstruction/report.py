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
from tpsfm.reconstruction.diagnosis import why_left_out
from tpsfm.reconstruction.world import read_georeference


def write_results(workspace: Workspace) -> None:
    """After mapping: write points, report and figures, and remember the map as the last one.

    Raises:
        TpsfmError: there is no map.
    """
    models = workspace.manifest["stages"]["map"]["counts"]["models"]
    registered = list(read_model(workspace.sparse).images) if models else []
    workspace.manifest["left_out"] = diagnose(workspace, registered)
    if not models:
        workspace.manifest.pop("result", None)
        workspace.save()
        reasons = sorted(workspace.manifest["left_out"].items())
        name, reason = reasons[0]
        raise TpsfmError(
            f"no map: no two photos could start one ({name}: {reason}); take photos that overlap more, or see"
            f" 'tpsfm info {workspace.root}' for all reasons"
        )
    others = [workspace.sparse / str(number) for number in range(1, models)]
    record_map(workspace, len(workspace.manifest["photos"]) + len(workspace.manifest["unreadable"]), others)


def record_map(workspace: Workspace, photos: int, others: Sequence[Path] = ()) -> None:
    """Write points, report and figures of the map in `sparse`, and remember it as the last one.

    Args:
        photos: how many there were to map.
        others: folders of other models.
    """
    model = read_model(workspace.sparse)
    figures = summary(model)
    workspace.manifest["result"] = {
        "photos": photos,
        "registered": len(figures.pop("registered")),
        **figures,
        "other_models": {folder.name: len(read_model(folder).images) for folder in others},
    }
    from tpsfm.colmap.formats import write_ply
    from tpsfm.view.report import write_report

    write_ply(model, workspace.points)
    workspace.save()
    remember_map(workspace.root)
    write_report(workspace, model, read_georeference(workspace))


def open_map(root: Path) -> tuple[Workspace, Model]:
    """A workspace and the map in it.

    Raises:
        TpsfmError: `root` is no workspace or holds no map yet.
    """
    workspace = Workspace.open(root)
    if not (workspace.sparse / "images.bin").exists():
        raise TpsfmError(f"{root}: there is no map yet; run 'tpsfm reconstruct' or 'tpsfm map'")
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
    from tpsfm.colmap import PairTable

    with FeatureStore(workspace.features) as features:
        keypoints = {name: features.count(name) for name in photos}
    with PairTable(workspace.database) as table:
        matches, inliers = table.counts()
    return why_left_out(names, registered, unreadable, keypoints, matches, inliers)


def describe(workspace: Workspace) -> list[str]:
    """Lines for the user on what is in a workspace."""
    manifest = workspace.manifest
    lines = []
    result = manifest.get("result")
    if result is None:
        done = [stage.name for stage in Stages.types() if stage.name in manifest["stages"]]
        lines.append(f"{workspace.root}: no map yet; done so far: {', '.join(done) or 'nothing'}")
    else:
        lines += [
            f"registered          {result['registered']} of {result['photos']} photos",
            f"points              {result['points']:,}",
            f"mean track length   {result['mean_track_length']:.2f}",
            f"reprojection error  {result['reprojection_error']:.2f} px",
            *_in_the_world(workspace),
            *_turns(manifest),
            *_mapper(manifest),
            *_exactness(manifest["stages"].get(Alignment.name, {}).get("counts", {})),
        ]
        lines += [
            f"another model       {n} photos in {workspace.sparse / m}" for m, n in result["other_models"].items()
        ]
    seconds = [
        f"{stage.title} {manifest['stages'][stage.name]['seconds']:.1f} s"
        for stage in Stages.types()
        if stage.name in manifest["stages"]
    ]
    if seconds:
        lines.append(f"time                {', '.join(seconds)}")
    left_out = manifest.get("left_out", {})
    if left_out:
        lines.append(f"left out ({len(left_out)}):")
        lines += [f"  {name}: {reason}" for name, reason in left_out.items()]
    return lines


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
    folder = workspace.manifest.get("images")
    if folder is None:
        raise TpsfmError(f"{workspace.root}: no photos are known yet; run 'tpsfm extract' first")
    if not Path(folder).is_dir():
        raise TpsfmError(f"{workspace.root}: its photos' folder {folder} is gone; run 'tpsfm extract' on the new one")
    return Path(folder)

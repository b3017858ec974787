"""What is in a workspace, in lines for the user."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import summary
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.lookalikes import Lookalikes
from tpsfm.reconstruction.opening import open_map
from tpsfm.reconstruction.verification import Verification
from tpsfm.reconstruction.world import read_georeference

SHOWN = 20  # pairs of look-alikes, the worst; positions left out


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

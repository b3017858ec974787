"""Why a photo is not in the map."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tpsfm.colmap import read_observations
from tpsfm.geometry import Model
from tpsfm.pairs.selection import components

Pair = tuple[str, str]

MIN_MATCHES = 15  # that many make a pair worth verifying, in COLMAP too
MIN_KEYPOINTS = 50  # with fewer, enough matches are hardly to be had
BLANK = "blank or blurred"
FROM_ONE_POINT = "taken from one point"
SPREAD = 0.004  # of the distance to what they see, of photos from one point


def why_left_out(
    names: Collection[str],
    registered: Collection[str],
    unreadable: Mapping[str, str],
    keypoints: Mapping[str, int],
    matches: Mapping[Pair, int],
    inliers: Mapping[Pair, int],
    from_one_point: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """The first thing that went wrong for each photo that is not in the map.

    Args:
        names: all photos.
        registered: those in the map.
        unreadable: what was wrong, by name.
        keypoints: how many each photo has.
        matches: how many each pair of names has.
        inliers: how many of them are geometrically verified; 0 or missing where none are.
        from_one_point: the photo from whose point each of some was taken.

    Returns:
        The reason by name, sorted by name. It begins with one of: "unreadable"; "blank or blurred"; "too few
        keypoints"; "taken from one point"; "no pair with enough matches"; "verified pairs but not connected to the
        model"; "too few 2D-3D inliers".
    """
    registered = set(registered)
    best_match = _best_partner(matches)
    best_verified = _best_partner(inliers)
    best_in_map = _best_partner(inliers, registered)

    def reason(name: str) -> str:
        if name in unreadable:
            return f"unreadable: {unreadable[name]}"
        if not keypoints.get(name, 0):
            return f"{BLANK} (no keypoints)"
        if keypoints[name] < MIN_KEYPOINTS:
            return f"too few keypoints ({keypoints.get(name, 0)})"
        if name in from_one_point:
            return f"{FROM_ONE_POINT} with {from_one_point[name]}: a map needs you to move between photos"
        if name in best_in_map:
            count, other = best_in_map[name]
            return f"too few 2D-3D inliers (best pair: {count} verified matches with {other}, which is in the map)"
        if name in best_verified:
            count, other = best_verified[name]
            return f"verified pairs but not connected to the model (best: {count} with {other})"
        if name not in best_match:
            return "no pair with enough matches (none with any)"
        count, other = best_match[name]
        doubt = ", but they agree on no camera motion" if count >= MIN_MATCHES else ""
        return f"no pair with enough matches (best {count} with {other}{doubt})"

    return {name: reason(name) for name in sorted(set(names) - registered)}


def groups_from_one_point(model: Model, partner: Mapping[str, str], folder: Path) -> list[list[str]]:
    """Photos of a map that were taken from one point: they give each other no depth.

    Args:
        model: the map.
        partner: by name, a photo from whose point the photo seems to be taken by their matches alone.
        folder: of the map.

    Returns:
        Groups of names whose centres lie within `SPREAD` of the distance to what they see, the largest first.
    """
    pairs = [pair for pair in partner.items() if all(name in model.images for name in pair)]
    if not pairs:
        return []
    groups = [sorted(group) for group in components({name for pair in pairs for name in pair}, pairs)]
    observations, found = read_observations(folder), []
    for group in groups:
        centres = np.array([model.images[name].center for name in group])
        seen = model.points[np.concatenate([observations[name][1][observations[name][1] >= 0] for name in group])]
        distance = np.median(np.linalg.norm(seen - centres.mean(0), axis=1)) if len(seen) else 0.0
        if np.ptp(centres, axis=0).max() <= SPREAD * distance:
            found.append(group)
    return found


def _best_partner(counts: Mapping[Pair, int], partners: Collection[str] | None = None) -> dict[str, tuple[int, str]]:
    """By name: (count, partner) of its pair with the most, among those with any; ties go to the first name."""
    best: dict[str, tuple[int, str]] = {}
    for (name0, name1), count in sorted(counts.items()):
        for name, other in ((name0, name1), (name1, name0)):
            if count > best.get(name, (0, ""))[0] and (partners is None or other in partners):
                best[name] = (int(count), other)
    return best

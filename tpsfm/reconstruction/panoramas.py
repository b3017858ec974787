"""The 360-degree photos of a map of their views: how many it has, and where they were taken."""

from __future__ import annotations

import csv
import io

from tpsfm.geometry import quaternion
from tpsfm.io.atomic import write_atomic
from tpsfm.io.workspace import Workspace

_COLUMNS = ("name", "x", "y", "z", "qw", "qx", "qy", "qz")


def record_panoramas(workspace: Workspace) -> tuple[int, int] | None:
    """Write `panoramas.csv`: by name where each was taken, and its rotation from the world.

    The frame of a panorama has x to the right, y down and z to the middle of the photo.

    Returns:
        How many of how many are in the map; None, and no file, where its photos aren't such views.
    """
    workspace.panoramas.unlink(missing_ok=True)
    if not workspace.manifest["options"].get("rig"):
        return None
    from tpsfm.colmap.rigs import panoramas_of

    poses, prefixes = panoramas_of(workspace.sparse)
    if not poses:
        return None
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    rows.writerows([name, *pose.center.tolist(), *quaternion(pose.rotation).tolist()] for name, pose in poses.items())
    write_atomic(workspace.panoramas, text.getvalue())
    views = workspace.manifest["photos"]
    given = {name.removeprefix(prefix) for name in views for prefix in prefixes if name.startswith(prefix)}
    return len(poses), len(given)

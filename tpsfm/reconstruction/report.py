"""Results of a reconstruction: figures, files, and why each missing photo is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tpsfm.colmap import read_model
from tpsfm.errors import TpsfmError
from tpsfm.features.store import FeatureStore
from tpsfm.geometry import Model, summary
from tpsfm.io.workspace import Workspace, remember_map
from tpsfm.reconstruction.diagnosis import FROM_ONE_POINT, groups_from_one_point, why_left_out
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.panoramas import record_panoramas
from tpsfm.reconstruction.world import read_georeference
from tpsfm.view.report import write_report


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

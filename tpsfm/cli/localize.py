"""`tpsfm localize`: poses of new photos in a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tpsfm.cli import terminal
from tpsfm.cli.options import FOLDER, MODEL, common_options, example
from tpsfm.errors import TpsfmError


@click.command("localize")
@click.option("--query", "queries", type=FOLDER, required=True, help="Folder, photo, or list with intrinsics.")
@click.option("--map", "map_", type=FOLDER, help="Workspace of the map; the last one built from this folder.")
@click.option("--out", type=FOLDER, default="localization", show_default=True, help="Folder of the results.")
@click.option("--images", type=FOLDER, help="For a list: the folder its names are relative to; its own if left out.")
@click.option("--camera", help='Camera of all queries, "MODEL,W,H,p1,p2,..."; found out if left out.')
@click.option("--masks", type=FOLDER, help="Folder of masks, image.jpg.png; black: no keypoints.")
@click.option("--top-k", type=click.IntRange(1), default=20, show_default=True, help="Images of the map to match with.")
@click.option("--add", is_flag=True, help="Extend the map with the localized photos, in OUT/map.")
@MODEL
@common_options("device")
@example("tpsfm localize --query night/ --map map/ --out results/\n  tpsfm view map/ --queries results/")
def localize_(queries: Path, map_: Path | None, out: Path, add: bool, model: int, **given: Any) -> None:
    """Find the poses of new photos in a map.

    A list has a row `name MODEL width height params...` for each photo, or just its name. OUT gets poses.txt (name qw
    qx qy qz tx ty tz, world to camera, of the localized photos only), localization.json and localization.html. Run
    again, it goes on where it stopped. The exit status is 0 if all photos were localized, 3 if some, 1 if none.
    """
    import tpsfm
    from tpsfm.io.workspace import last_map
    from tpsfm.localization.output import PAGE

    progress = terminal()
    if map_ is None:
        map_ = last_map()
        if map_ is None:
            raise TpsfmError("no map was built from this folder yet, or it was moved; name its workspace with --map")
        progress.say(f"map                 {map_}, the last one built from this folder")
    try:
        results = tpsfm.localize(queries, map_, out, add=add, model=model, progress=progress, **given)
    except KeyboardInterrupt:
        raise TpsfmError(
            f"stopped; {out} has the results of the photos done so far; the same command resumes"
        ) from None
    localized = sum(result.pose is not None for result in results)
    progress.say(f"localized           {localized} of {len(results)} photos")
    for result in results:
        if result.pose is None:
            progress.say(f"  {result.name}: {result.reason}")
    if add and localized:
        progress.say(f"extended map        {out / 'map'}")
    which = f" --model {model}" if model else ""
    progress.say(f"see it              tpsfm view {map_}{which} --queries {out}   or open {out / PAGE}")
    click.get_current_context().exit(0 if localized == len(results) else 3 if localized else 1)

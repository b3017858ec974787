"""`tpsfm import`, `panoramas`, `merge`, `info`, `view`, `export`, `undistort` and `dense`: what is in a map."""

from __future__ import annotations

from pathlib import Path

import click

from tpsfm.cli import terminal
from tpsfm.cli.options import FOLDER, MODEL, common_options, example
from tpsfm.errors import TpsfmError

FORMATS = "colmap-bin, colmap-txt, ply, nerfstudio or bundler; of a map in metres ply-utm, las, laz or geojson."


@click.command("import")
@click.argument("model", type=FOLDER)
@click.argument("images", type=FOLDER)
@click.argument("out", type=FOLDER)
@example(
    "tpsfm import sparse/0/ photos/ map/\n  tpsfm reconstruct photos/ map/ --poses map/imported/   # then `localize`"
)
def import_(model: Path, images: Path, out: Path) -> None:
    """Make the workspace OUT of a COLMAP model (binary or text; hloc's are such) and its photos.

    `info`, `view`, `export` and `undistort` work at once. To localize photos, let `reconstruct` make the points anew
    from our features; cameras and poses stay as they are.
    """
    from tpsfm.reconstruction.description import describe
    from tpsfm.reconstruction.imported import import_model

    progress = terminal()
    for line in describe(import_model(model, images, out)):
        progress.say(line)


@click.command("panoramas")
@click.argument("photos", type=FOLDER)
@click.argument("views", type=FOLDER)
@example("tpsfm panoramas around/ views/\n  tpsfm reconstruct views/photos/ map/ --rig views/rig.json")
def panoramas_(photos: Path, views: Path) -> None:
    """Cut the 360-degree PHOTOS (equirectangular, twice as wide as high) into views, in the new folder VIEWS.

    Each gives six, which look out from one point; rig.json in VIEWS tells how they lie to each other. The command that
    maps them is printed.
    """
    from tpsfm.photos.panoramas import cut_panoramas

    progress = terminal()
    with progress.bar("views", None) as update:
        count, camera = cut_panoramas(photos, views, update)
    progress.say(f"panoramas           {count}")
    said = ",".join(f"{value:g}" for value in camera)
    progress.say(
        f"map them            tpsfm reconstruct {views / 'photos'} map/ --rig {views / 'rig.json'}"
        f" --cameras PINHOLE,{said} --fix-cameras"
    )


@click.command("merge")
@click.argument("maps", type=FOLDER, nargs=-1, required=True)
@click.argument("out", type=FOLDER)
@example("tpsfm merge north/ south/ both/\n  tpsfm merge map/ one/     # the models of one map")
def merge_(maps: tuple[Path, ...], out: Path) -> None:
    """Make one map of those in MAPS, two workspaces or one with several models, in the new workspace OUT.

    They are joined by the points that photos of both show, which are matched with each other, else by GPS; where they
    don't agree, the reason is told. OUT has links to the photos and goes on as any other map.
    """
    from tpsfm.reconstruction.description import describe
    from tpsfm.reconstruction.merging import merge

    if len(maps) > 2:
        raise TpsfmError("two maps are merged at a time; merge the result with the next one")
    progress = terminal()
    for line in describe(merge(maps[0], maps[1] if len(maps) == 2 else None, out, progress)):
        progress.say(line)


@click.command("export")
@click.argument("out", type=FOLDER)
@click.option("--format", "format_", required=True, help=FORMATS)
@click.option("--to", type=FOLDER, required=True, help="Folder to write; for points and geojson a file.")
@MODEL
@example("tpsfm export map/ --format nerfstudio --to exported/\n  tpsfm export map/ --format laz --to points.laz")
def export_(out: Path, format_: str, to: Path, model: int) -> None:
    """Write the map of OUT for another program."""
    from tpsfm import colmap
    from tpsfm.reconstruction.opening import open_map
    from tpsfm.reconstruction.world import read_georeference

    workspace, _ = open_map(out, model)
    click.echo(colmap.export(workspace.sparse, format_, to, workspace.images, read_georeference(workspace)))


@click.command("undistort")
@click.argument("out", type=FOLDER)
@click.argument("dense", type=FOLDER)
@click.option(
    "--for", "tool", default="colmap", show_default=True, help="colmap, openmvs, nerfstudio or gaussian-splatting."
)
@click.option("--masks", type=FOLDER, help="Folder of masks, image.jpg.png, warped along.")
@MODEL
@common_options("threads")
@example("tpsfm undistort map/ scene/ --for gaussian-splatting")
def undistort_(out: Path, dense: Path, tool: str, masks: Path | None, model: int, threads: int) -> None:
    """Write the photos of OUT without distortion, and their map, into the new folder DENSE for another program.

    The cameras become pinholes; the photos keep their names.
    """
    from tpsfm import colmap
    from tpsfm.reconstruction.opening import image_folder, open_map

    progress = terminal()
    workspace, _ = open_map(out, model)
    colmap.undistort(workspace.sparse, image_folder(workspace), dense, tool, masks, threads, progress)
    progress.say(f"undistorted photos  {dense / 'images'}")


@click.command("dense")
@click.argument("out", type=FOLDER)
@click.option("--to", type=FOLDER, help="Folder of the undistorted photos and the dense points; OUT/dense if left out.")
@click.option("--by", "tool", default="auto", show_default=True, help="colmap or openmvs; auto: which is installed.")
@click.option("--masks", type=FOLDER, help="Folder of masks, image.jpg.png; OpenMVS leaves out what they hide.")
@MODEL
@common_options("threads")
@example("tpsfm dense map/ --by openmvs")
def dense_(out: Path, to: Path | None, tool: str, masks: Path | None, model: int, threads: int) -> None:
    """Make dense points of the map of OUT by COLMAP's or OpenMVS' programs, which must be installed.

    Run again, it goes on with the step in which it was stopped.
    """
    from tpsfm.reconstruction.dense import dense
    from tpsfm.reconstruction.opening import open_map

    progress = terminal()
    workspace, _ = open_map(out, model)
    folder = to or out / (f"dense-{model}" if model else "dense")
    progress.say(f"dense points        {dense(workspace, folder, tool, masks, threads, progress)}")


@click.command("info")
@click.argument("out", type=FOLDER)
@MODEL
@example("tpsfm info map/")
def info_(out: Path, model: int) -> None:
    """Show what is in the map of OUT, and why each missing photo is missing."""
    from tpsfm.io.workspace import Workspace
    from tpsfm.reconstruction.description import describe

    for line in describe(Workspace.open(out), model):
        click.echo(line)


@click.command("view")
@click.argument("out", type=FOLDER)
@click.option("--queries", type=FOLDER, help="Results of `localize`; their photos get a colour of their own.")
@click.option("--snapshot", type=FOLDER, help="Draw it off-screen into this PNG instead.")
@click.option("--web", is_flag=True, help="Serve a page instead.")
@click.option("--host", default="127.0.0.1", show_default=True, help="For --web: 0.0.0.0 opens it to the network.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="For --web; 0: a free one."
)
@MODEL
@example("tpsfm view map/ --snapshot map.png")
def view_(out: Path, queries: Path | None, snapshot: Path | None, web: bool, host: str, port: int, model: int) -> None:
    """Show the map of OUT: an Open3D window where there is a display, else a page in the browser."""
    from tpsfm.reconstruction.opening import open_map
    from tpsfm.reconstruction.world import read_georeference
    from tpsfm.view.window import has_display, show

    workspace, shown = open_map(out, model)
    level = read_georeference(workspace) is not None
    found, folder = None, None
    if queries is not None:
        from tpsfm.localization.output import read_queries

        found, folder = read_queries(queries, workspace)
    if snapshot is not None:
        from tpsfm.view.snapshot import snapshot as draw

        draw(shown, snapshot, queries=found, level=level)
        click.echo(snapshot)
        return
    if not web and has_display():
        try:
            return show(shown, found, level)
        except TpsfmError as error:
            click.echo(f"no window: {error}; serving a page instead", err=True)
    from tpsfm.view.web import serve

    images = workspace.images
    ready = lambda address: click.echo(f"{address}   (Ctrl-C ends it)")  # noqa: E731
    serve(shown, images, host, port, found, folder, level, ready=ready)

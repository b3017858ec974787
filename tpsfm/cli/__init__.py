"""The command line: each command is one call of the API."""

from __future__ import annotations

import errno
import logging
import sys
from pathlib import Path

import click

from tpsfm import TpsfmError, __version__
from tpsfm.cli.localize import localize
from tpsfm.cli.options import COMMON, DEVICE, FEATURES, FOLDER, MAP, MATCH, PAIRS, SEED, options
from tpsfm.cli.train import train


class Commands(click.Group):
    """Ends in one line where a user can mend what is wrong."""

    def invoke(self, context: click.Context):
        logging.captureWarnings(True)
        try:
            return super().invoke(context)
        except TpsfmError as error:
            message = str(error)
        except KeyboardInterrupt:
            message = "stopped; the same command goes on from here"
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            message = (
                f"the disk is full ({error.filename or 'while writing'}); make room and run the same command again"
            )
        click.echo(f"Error: {message}", err=True)
        sys.exit(1)


def example(text: str):
    """Add an example to a command's help."""

    def add(function):
        function.__doc__ = f"{function.__doc__}\n\n\b\nExample:\n  {text}"
        return function

    return add


def terminal():
    """Progress on the terminal, which warnings go to as well."""
    from tpsfm.progress import Terminal

    progress = Terminal()

    class ToTerminal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            progress.say(f"{record.levelname.lower()}: {record.getMessage()}")

    logging.getLogger("tpsfm").addHandler(ToTerminal(logging.WARNING))
    return progress


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tpsfm")
def main() -> None:
    """Photos in, a 3D map out.

    \b
    Example:
      tpsfm reconstruct photos/ map/
      tpsfm view map/
    """


@main.command()
@click.argument("images", type=FOLDER)
@click.argument("out", type=FOLDER)
@options(FEATURES, PAIRS, MATCH, MAP, COMMON)
@example("tpsfm reconstruct photos/ map/ --max-keypoints 8192")
def reconstruct(images: Path, out: Path, **given) -> None:
    """Build a 3D map of the folder IMAGES in the workspace OUT; run again, it goes on where it stopped."""
    import tpsfm
    from tpsfm.reconstruction.report import describe

    progress = terminal()
    workspace = tpsfm.reconstruct(images, out, progress=progress, **given)
    for line in [*describe(workspace), see(workspace)]:
        progress.say(line)


def see(workspace) -> str:
    """The line that tells how to look at a map."""
    return f"see it              tpsfm view {workspace.root}   or open {workspace.report}"


def one_stage(stage: str, out: Path, images: Path | None = None, **given) -> None:
    """Run a stage with the options given now, and for the others those of the last time."""
    from tpsfm.io.workspace import Workspace
    from tpsfm.reconstruction import Options, run_stage
    from tpsfm.reconstruction.report import describe, image_folder

    context = click.get_current_context()
    workspace = Workspace.open(out, create=images is not None)
    progress = terminal()
    explicit = {k: v for k, v in given.items() if context.get_parameter_source(k).name != "DEFAULT"}
    chosen = Options(**{**given, **workspace.manifest["options"], **explicit})
    with workspace.locked():
        run_stage(stage, workspace, chosen, images or image_folder(workspace), progress)
    for line in describe(workspace):
        progress.say(line)


@main.command()
@click.argument("images", type=FOLDER)
@click.argument("out", type=FOLDER)
@options(FEATURES, COMMON)
@example("tpsfm extract photos/ map/ --features sift")
def extract(images: Path, out: Path, **given) -> None:
    """Extract the features of the folder IMAGES into OUT/features.h5."""
    one_stage("extract", out, images, **given)


@main.command()
@click.argument("out", type=FOLDER)
@options(PAIRS, COMMON)
@example("tpsfm pairs map/ --pairs sequential --overlap 5")
def pairs(out: Path, **given) -> None:
    """Choose which photos of OUT are matched, into OUT/pairs.txt."""
    one_stage("pairs", out, **given)


@main.command()
@click.argument("out", type=FOLDER)
@options(MATCH, [DEVICE], COMMON)
@example("tpsfm match map/ --ratio 0.9")
def match(out: Path, **given) -> None:
    """Match the pairs of OUT into OUT/matches.h5."""
    one_stage("match", out, **given)


@main.command("map")
@click.argument("out", type=FOLDER)
@options(MAP, COMMON)
@example("tpsfm map map/ --mapper global")
def map_(out: Path, **given) -> None:
    """Verify the matches of OUT and build the map in OUT/sparse."""
    one_stage("map", out, **given)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--format", "format_", required=True, help="colmap-bin, colmap-txt, ply, nerfstudio or bundler.")
@click.option("--to", type=FOLDER, required=True, help="Folder to write; for ply a file.")
@example("tpsfm export map/ --format nerfstudio --to exported/")
def export(out: Path, format_: str, to: Path) -> None:
    """Write the map of OUT for another program."""
    from tpsfm import colmap
    from tpsfm.reconstruction.report import image_folder, open_map

    workspace, _ = open_map(out)
    click.echo(colmap.export(workspace.sparse, format_, to, image_folder(workspace)))


@main.command()
@click.argument("out", type=FOLDER)
@example("tpsfm info map/")
def info(out: Path) -> None:
    """Tell what is in the map of OUT, and why each missing photo is missing."""
    from tpsfm.io.workspace import Workspace
    from tpsfm.reconstruction.report import describe

    for line in describe(Workspace.open(out)):
        click.echo(line)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--queries", type=FOLDER, help="Results of `localize`; their photos get a colour of their own.")
@click.option("--snapshot", type=FOLDER, help="Draw it off-screen into this PNG instead.")
@click.option("--web", is_flag=True, help="Serve a page instead.")
@click.option("--host", default="127.0.0.1", show_default=True, help="For --web: 0.0.0.0 opens it to the network.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="For --web; 0: a free one."
)
@example("tpsfm view map/ --snapshot map.png")
def view(out: Path, queries: Path | None, snapshot: Path | None, web: bool, host: str, port: int) -> None:
    """Show the map of OUT: an Open3D window where there is a display, else a page in the browser."""
    from tpsfm.reconstruction.report import open_map
    from tpsfm.view.window import has_display, show

    workspace, model = open_map(out)
    found, folder = None, None
    if queries is not None:
        from tpsfm.localization.output import read_queries

        found, folder = read_queries(queries, workspace)
    if snapshot is not None:
        from tpsfm.view.snapshot import snapshot as draw

        draw(model, snapshot, queries=found)
        click.echo(snapshot)
        return
    if not web and has_display():
        try:
            return show(model, found)
        except TpsfmError as error:
            click.echo(f"no window: {error}; serving a page instead", err=True)
    from tpsfm.view.web import serve

    images = Path(workspace.manifest["images"])
    ready = lambda address: click.echo(f"{address}   (Ctrl-C ends it)")  # noqa: E731
    serve(model, images, host, port, found, folder, ready=ready)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--views", type=click.IntRange(2), default=24, show_default=True, help="Photos to render.")
@SEED
@example("tpsfm demo demo/")
def demo(out: Path, views: int, seed: int) -> None:
    """Render a scene with known cameras into OUT, map it as `reconstruct` does, and print the true error."""
    import tpsfm
    from tpsfm.demo.dataset import render_scene, report_errors
    from tpsfm.reconstruction.report import describe

    progress = terminal()
    with progress.bar("rendering", views) as update:
        images = render_scene(out, views, seed=seed, progress=lambda done: update(done, views))
    workspace = tpsfm.reconstruct(images, out / "map", progress=progress, seed=seed)
    for line in [*describe(workspace), *report_errors(workspace.sparse, out / "gt.json"), see(workspace)]:
        progress.say(line)


@main.command()
@example("tpsfm networks")
def networks() -> None:
    """Print the networks that `train` knows, with their parameters and cost for a photo of 640 x 480."""
    from tpr.complexity import table

    click.echo(f"{'network':10} {'parameters':>12} {'GMACs':>8} {'descriptor':>10}")
    for row in table():
        click.echo(f"{row.name:10} {row.parameters:12,} {row.macs / 1e9:8.2f} {row.dim:10}")


main.add_command(localize)
main.add_command(train)

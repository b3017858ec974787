"""`tpsfm reconstruct`, its stages one by one, and `tpsfm demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tpsfm.cli import terminal
from tpsfm.cli.options import FOLDER, common_options, example, given_options, stage_options
from tpsfm.cluster import disconnect
from tpsfm.io.workspace import Workspace
from tpsfm.photos.fetching import local_folder
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.frames import Frames
from tpsfm.reconstruction.georeference import Georeference
from tpsfm.reconstruction.lookalikes import Lookalikes
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.matching import Matching
from tpsfm.reconstruction.pairs import Pairing
from tpsfm.reconstruction.turns import Turns
from tpsfm.reconstruction.verification import Verification


@click.command("reconstruct")
@click.argument("images")
@click.argument("out", type=FOLDER)
@stage_options(Extraction, Frames, Turns, Pairing, Matching, Verification, Mapping, Alignment, Lookalikes, Georeference)
@example("tpsfm reconstruct photos/ map/ --max-keypoints 4096\n  tpsfm reconstruct clip.mp4 map/ --fps 2")
def reconstruct_(images: str, out: Path, **given: Any) -> None:
    """Build a 3D map of IMAGES, a folder of photos, its URL or a video, in the workspace OUT; run again, it goes on
    where it stopped."""
    import tpsfm
    from tpsfm.reconstruction.description import describe

    progress = terminal()
    workspace = tpsfm.reconstruct(images, out, progress=progress, **given)
    for line in [*describe(workspace), _see(workspace)]:
        progress.say(line)


@click.command("extract")
@click.argument("images")
@click.argument("out", type=FOLDER)
@stage_options(Extraction, Frames, Turns)
@example("tpsfm extract photos/ map/ --features sift")
def extract_(images: str, out: Path, **given: Any) -> None:
    """Extract the features of IMAGES, a folder of photos, its URL or a video, into OUT/features.h5."""
    _run(["frames", "turns", "features"], out, given, images)


@click.command("pairs")
@click.argument("out", type=FOLDER)
@stage_options(Pairing)
@example("tpsfm pairs map/ --pairs sequential --overlap 5")
def pairs_(out: Path, **given: Any) -> None:
    """Choose which photos of OUT are matched, into OUT/pairs.txt."""
    _run(["pairs"], out, given)


@click.command("match")
@click.argument("out", type=FOLDER)
@stage_options(Matching)
@example("tpsfm match map/ --ratio 0.9")
def match_(out: Path, **given: Any) -> None:
    """Match the pairs of OUT into OUT/database.db."""
    _run(["matching"], out, given)


@click.command("map")
@click.argument("out", type=FOLDER)
@stage_options(Verification, Mapping, Alignment, Lookalikes, Georeference)
@example("tpsfm map map/ --mapper global")
def map_(out: Path, **given: Any) -> None:
    """Verify the matches of OUT and build the map in OUT/sparse."""
    from tpsfm.reconstruction.report import write_results

    _run(["verification", "mapping", "alignment", "lookalikes", "georeference"], out, given, finish=write_results)


@click.command("demo")
@click.argument("out", type=FOLDER)
@click.option("--views", type=click.IntRange(2), default=24, show_default=True, help="Photos to render.")
@common_options("seed")
@example("tpsfm demo demo/")
def demo_(out: Path, views: int, seed: int) -> None:
    """Render a scene with known cameras into OUT, map it as `reconstruct` does, and print the true error."""
    import tpsfm
    from tpsfm.demo.dataset import render_scene, report_errors
    from tpsfm.reconstruction.description import describe

    progress = terminal()
    with progress.bar("rendering", views) as update:
        images = render_scene(out, views, seed=seed, progress=lambda done: update(done, views))
    workspace = tpsfm.reconstruct(images, out / "map", progress=progress, seed=seed)
    for line in [*describe(workspace), *report_errors(workspace.sparse, out / "gt.json"), _see(workspace)]:
        progress.say(line)


def _run(names: list[str], out: Path, values: dict[str, Any], source: str | None = None, finish: Any = None) -> None:
    """Run stages with the options given now, and for the others those of the last time."""
    from tpsfm.reconstruction.description import describe
    from tpsfm.reconstruction.opening import image_folder

    progress = terminal()
    workspace = Workspace.open(out, create=source is not None)
    stages = Stages.recorded(workspace, **given_options(values))
    try:
        with workspace.locked():
            images = None if source is None else local_folder(source, workspace.root, progress)
            stages = stages.for_images(images)
            stages.check(workspace, images, names)
            stages.record(workspace, images or image_folder(workspace))
            for name in names:
                getattr(stages, name).run(workspace, progress)
            if finish is not None:
                finish(workspace)
    finally:
        disconnect()
    for line in describe(workspace):
        progress.say(line)


def _see(workspace: Workspace) -> str:
    return f"see it              tpsfm view {workspace.root}   or open {workspace.report}"

"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)


def options(*groups: list):
    """Give a command several options."""

    def add(function):
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return add


DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
FEATURES = [
    click.option(
        "--features", default="tpr", show_default=True, help="tpr, sift, aliked, disk, xfeat or a plug-in's name."
    ),
    click.option("--weights", type=FOLDER, help="Weights file of the features; the shipped ones if left out."),
    click.option("--max-keypoints", type=click.IntRange(1), default=8192, show_default=True, help="Keypoints a photo."),
    click.option("--max-size", type=click.IntRange(32), default=1600, show_default=True, help="Longer side, pixels."),
    DEVICE,
    click.option("--turned", is_flag=True, help="The photos are turned against each other (drone strips, phones)."),
    click.option("--masks", type=FOLDER, help="Folder of masks, image.jpg.png; black: no keypoints."),
]
PAIRS = [
    click.option(
        "--pairs",
        type=click.Choice(["auto", "exhaustive", "sequential", "retrieval", "gps", "file"]),
        default="auto",
        show_default=True,
        help="Which photos are matched; auto: all pairs up to 60 photos, else retrieval.",
    ),
    click.option("--neighbours", type=click.IntRange(1), default=20, show_default=True, help="For retrieval and gps."),
    click.option("--overlap", type=click.IntRange(1), default=10, show_default=True, help="For sequential."),
    click.option(
        "--quadratic/--no-quadratic",
        default=True,
        show_default=True,
        help="For sequential: also 2, 4, 8 ... photos on.",
    ),
    click.option("--pairs-file", type=FOLDER, help="For file: two names a line."),
]
MATCH = [
    click.option("--min-similarity", type=click.FloatRange(-1, 1), help="Least cosine similarity of a match."),
    click.option(
        "--ratio",
        type=click.FloatRange(0, 1, min_open=True),
        help="Lowe's ratio; the features' own if left out, 1: off.",
    ),
]
MAP = [
    click.option("--camera-model", default="SIMPLE_RADIAL", show_default=True, help="COLMAP's name of it."),
    click.option(
        "--camera-mode",
        type=click.Choice(["auto", "single", "per-folder", "per-image"]),
        default="auto",
        show_default=True,
        help="Which photos share a camera; auto: same device and size by EXIF.",
    ),
    click.option("--mapper", type=click.Choice(["incremental", "global"]), default="incremental", show_default=True),
]
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same map.")
COMMON = [
    SEED,
    click.option("--threads", type=int, default=-1, show_default=True, help="-1: all cores."),
]

"""`tpsfm train`, `adapt` and `networks`: features of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from tpsfm.cli import terminal
from tpsfm.cli.options import FOLDER, common_options, example
from tpsfm.errors import TpsfmError


@click.command("train")
@click.argument("images", type=FOLDER)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--config", default="s", show_default=True, help="s, vgg, dcn, swin, or a YAML file.")
@click.option("--out", type=FOLDER, default="weights.safetensors", show_default=True, help="Weights to write.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside the weights.")
@common_options("device")
@click.option("--licence", help="What the model card shall say of the photos' licences.")
@example(
    "tpsfm train photos/ --config s --out weights.safetensors optimization.steps=20000\n"
    "  tpsfm reconstruct photos/ map/ --weights weights.safetensors"
)
def train_(
    images: Path, overrides: tuple[str, ...], config: str, out: Path, resume: bool, device: str, licence: str | None
) -> None:
    """Train features from the folder IMAGES of plain photos; 50 are enough to start.

    Any KEY of the configuration can be given another VALUE. Beside the weights lie a model card (.md), a table (.csv),
    curves for TensorBoard (.curves) and a checkpoint, from which --resume goes on exactly. Several GPUs:
    torchrun --no-python --nproc-per-node 4 tpsfm train ...
    """
    import tpr
    from tpr.config import ConfigError
    from tpr.engine import TrainingStopped

    from tpsfm.device import choose_device

    _show_warnings()
    choose_device(device)
    try:
        figures = tpr.train(images, config, out, resume, list(overrides), device, licence)
    except (ConfigError, TrainingStopped) as error:
        raise TpsfmError(str(error)) from error
    click.echo(f"{out}: matching accuracy {figures.get('accuracy', float('nan')):.3f} on photos that were held out")


@click.command("adapt")
@click.argument("out", type=FOLDER)
@click.option("--to", type=FOLDER, help="Weights to write; OUT/adapted.safetensors if left out.")
@click.option("--steps", type=click.IntRange(1), default=120, show_default=True, help="Of training.")
@click.option("--photos", type=FOLDER, help="Folder of other photos to train on as well, so that less is forgotten.")
@common_options("device")
@example(
    "tpsfm adapt map/\n  tpsfm reconstruct photos/ better/ --weights map/adapted.safetensors     # or localize in it"
)
def adapt_(out: Path, to: Path | None, steps: int, photos: Path | None, device: str) -> None:
    """Train the features of the map in OUT on, on its own photos: a few minutes on two cores.

    Photos that show the same points of the map are pairs to learn real changes of viewpoint and light from, beside
    warps of each. Some photos are held out and tell what was gained: how they are localized among their neighbours
    before and after. What is forgotten of other places is only told with --photos. Run again, it goes on from the
    checkpoint beside the weights.
    """
    from tpsfm.adaptation import FORGOTTEN, adapt

    _show_warnings()
    progress = terminal()
    found = adapt(out, to, steps, photos, device, progress=progress)
    before, after = found.before, found.after
    progress.say(
        f"trained on          {found.pairs} pairs of {found.photos} photos; held out: {', '.join(found.held_out)}"
    )
    progress.say(f"{'held-out photos':20}{'before':>10}{'after':>10}")
    for name in ("registered", "matches", "inliers"):
        progress.say(f"  {name:18}{getattr(before, name):10,}{getattr(after, name):10,}")
    progress.say(f"  {'error, pixels':18}{before.error:10.3f}{after.error:10.3f}")
    progress.say(f"{'points of the others':20}{before.points:10,}{after.points:10,}")
    warped = "warps of other photos" if photos else "warps of these photos"
    progress.say(f"{warped:22}{before.accuracy:8.3f}{after.accuracy:10.3f}   accuracy")
    if after.accuracy < before.accuracy - FORGOTTEN:
        progress.say(
            f"forgotten           accuracy fell by {before.accuracy - after.accuracy:.3f}, more than {FORGOTTEN}"
        )
    gain = after.inliers / max(before.inliers, 1) - 1
    if after.registered < before.registered or gain <= 0:
        progress.say(f"no gain             {gain:+.1%} inliers: keep the weights that the map has, not {found.weights}")
    else:
        progress.say(f"weights             {found.weights}   ({gain:+.1%} inliers; use it: --weights)")


def _show_warnings() -> None:
    """Of the learner, on the terminal."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("tpr").addHandler(handler)


@click.command("networks")
@example("tpsfm networks")
def networks_() -> None:
    """Print the networks that `train` knows, with their parameters and cost for a photo of 640 x 480."""
    from tpr.complexity import table

    click.echo(f"{'network':10} {'parameters':>12} {'GMACs':>8} {'descriptor':>10}")
    for row in table():
        click.echo(f"{row.name:10} {row.parameters:12,} {row.macs / 1e9:8.2f} {row.dim:10}")

"""`tpsfm train`: features of one's own from plain photos."""

from __future__ import annotations

from pathlib import Path

import click

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
    import logging

    import tpr
    from tpr.config import ConfigError
    from tpr.engine import TrainingStopped

    from tpsfm.device import choose_device

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("tpr").addHandler(handler)
    choose_device(device)
    try:
        figures = tpr.train(images, config, out, resume, list(overrides), device, licence)
    except (ConfigError, TrainingStopped) as error:
        raise TpsfmError(str(error)) from error
    click.echo(f"{out}: matching accuracy {figures.get('accuracy', float('nan')):.3f} on photos that were held out")


@click.command("networks")
@example("tpsfm networks")
def networks_() -> None:
    """Print the networks that `train` knows, with their parameters and cost for a photo of 640 x 480."""
    from tpr.complexity import table

    click.echo(f"{'network':10} {'parameters':>12} {'GMACs':>8} {'descriptor':>10}")
    for row in table():
        click.echo(f"{row.name:10} {row.parameters:12,} {row.macs / 1e9:8.2f} {row.dim:10}")

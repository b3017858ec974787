"""Reconstruct photos with known poses: how many are registered, and how exactly.

    python pipelines/sfm.py DATA/eval/sfm --features tpr --threads 2

Each subfolder SCENE with SCENE/images/ is reconstructed; where it has a SCENE/gt.json (image name -> R, world to
camera, and C, the centre), the pose AUC follows: over all pairs of photos, the larger of the errors of the relative
rotation and of the direction of the translation, in degrees; a photo left out counts as wrong.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

import tpsfm

THRESHOLDS = (1, 3, 5, 10)


def measure(scene: Path, out: Path, **options) -> str:
    """Reconstruct one scene and return its row of the table."""
    from tpsfm.evaluation.poses import load_poses, pose_auc, pose_errors
    from tpsfm.images import list_images
    from tpsfm.model import read_model, summary

    start = time.perf_counter()
    photos = list_images(scene / "images")
    try:
        workspace = tpsfm.reconstruct(scene / "images", out, **options)
    except tpsfm.TpsfmError as error:
        return f"{scene.name:<16} {error}"
    seconds = time.perf_counter() - start
    model = read_model(workspace.sparse)
    report = summary(model)
    row = (
        f"{scene.name:<16} {len(model.images):>4} of {len(photos):<4} {report['points']:>7} "
        f"{report['mean_track_length']:>6.2f} {report['reprojection_error']:>6.3f} {seconds:>8.1f}"
    )
    if (scene / "gt.json").exists():
        auc = pose_auc(pose_errors(load_poses(scene / "gt.json"), model.images), THRESHOLDS)
        row += "".join(f" {100 * value:>7.2f}" for value in auc)
    return row


@click.command(help=__doc__.splitlines()[0])
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--scene", "scenes", multiple=True, help="Only this subfolder; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the workspaces here.")
@click.option("--features", default="tpr", show_default=True)
@click.option("--max-keypoints", default=8192, show_default=True)
@click.option("--max-size", default=1600, show_default=True)
@click.option("--camera-model", default="SIMPLE_RADIAL", show_default=True)
@click.option("--camera-mode", default="auto", show_default=True)
@click.option("--mapper", type=click.Choice(["incremental", "global"]), default="incremental", show_default=True)
@click.option("--ratio", type=float)
@click.option("--min-similarity", type=float)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=-1, show_default=True)
def main(data: Path, scenes: tuple[str, ...], out: Path | None, **options) -> None:
    folders = [data / name for name in scenes] or sorted(path for path in data.iterdir() if path.is_dir())
    missing = [folder for folder in folders if not (folder / "images").is_dir()]
    if missing:
        raise click.ClickException(f"no folder '{missing[0] / 'images'}'")
    auc = "".join(f" AUC@{threshold}°".rjust(8) for threshold in THRESHOLDS)
    click.echo(f"{'scene':<16} registered   points  track  error  seconds{auc}")
    for folder in folders:
        with tempfile.TemporaryDirectory() as temporary:
            click.echo(measure(folder, (out or Path(temporary)) / folder.name, **options))


if __name__ == "__main__":
    main()

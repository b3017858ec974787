"""Features adapted to a map: its tracks are views that belong together, with real changes of viewpoint and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpr.config import ConfigError, NetworkConfig, load_config
from tpr.engine import Trainer, TrainingStopped
from tpr.weights import WeightsError, read_weights, shipped_weights

from tpsfm.adaptation.figures import Figures, measure
from tpsfm.adaptation.scene import Scene
from tpsfm.device import choose_device, computes_bfloat16
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.progress import Progress
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.opening import open_map

__all__ = ["Adaptation", "Figures", "adapt"]

FILE = "adapted.safetensors"
FORGOTTEN = 0.02  # of accuracy on other photos


@dataclass(frozen=True)
class Adaptation:
    """What was adapted, and what it gained.

    Attributes:
        weights: the file.
        photos, pairs: how many were trained on.
        held_out: the photos that were not.
        before, after: with the map's weights and with the new ones.
    """

    weights: Path
    photos: int
    pairs: int
    held_out: list[str]
    before: Figures
    after: Figures


def adapt(
    root: str | Path,
    to: str | Path | None = None,
    steps: int = 120,
    photos: str | Path | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Adaptation:
    """Train the features of a map on, on its own photos: warps of each, and pairs that share tracks of its points.

    Some photos are held out; they tell what was gained. Run again, it goes on from the checkpoint beside the weights.

    Args:
        root: workspace of the map. Where its features are others than `tpr`, the shipped weights are adapted.
        to: the weights to write; `adapted.safetensors` in the workspace if left out.
        steps: of training; 120 take some two minutes of one core.
        photos: a folder of other photos, trained on beside the map's and held out for `Figures.accuracy`.
        device: "auto", "cpu" or "cuda".
        overrides: "key=value" of the learner's configuration `adapt`.
        progress: receives the progress.

    Raises:
        TpsfmError: the map is too small, its photos or weights are gone, or training can't go on.
    """
    progress = progress or Progress()
    workspace, model = open_map(Path(root))
    weights = Path(to) if to is not None else workspace.root / FILE
    stages = Stages.recorded(workspace, features="tpr", device=device, **_others(workspace))
    start = Path(stages.features.weights or shipped_weights()).resolve()
    if weights.suffix != ".safetensors":
        raise TpsfmError(f"{weights}: the weights' name must end in .safetensors")
    if weights.resolve() == start:
        raise TpsfmError(f"{weights}: the map is made with these weights; name another file with --to")
    try:
        name, options = read_weights(start)[0]
        config = load_config("adapt", [f"optimization.steps={steps}", *overrides])
        config.network, config.start = NetworkConfig(name, options), str(start)
        config.run.bfloat16 = computes_bfloat16(choose_device(device))
        scene = Scene(workspace, model)
        data = scene.data(None if photos is None else Path(photos), config.validation, choose_device(device))
        with workspace.locked():
            before = measure(scene, stages, start, data, progress, "before")
            trainer = Trainer(data, config, weights, device)
            if trainer.checkpoint.exists():
                trainer.resume()
            trainer.run()
            after = measure(scene, stages, weights, data, progress, "after")
    except (ConfigError, WeightsError, TrainingStopped) as error:
        raise TpsfmError(str(error)) from error
    return Adaptation(weights, len(data.photos), len(data.matched), scene.held_out, before, after)


def _others(workspace: Workspace) -> dict[str, Any]:
    """Options of a map of other features than ours that ours don't share."""
    own = workspace.manifest["options"].get("features", "tpr") == "tpr"
    return {"pairs_file": None, "pairs": "auto"} | ({} if own else {"weights": None, "ratio": None})

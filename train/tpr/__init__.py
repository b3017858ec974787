"""TPR: local features that learn by themselves from plain photos (CVPR 2023), as a library.

    tpr.train("photos/", config="s", out="weights.safetensors")
    network, vocabulary = tpr.load_weights("weights.safetensors")

It knows nothing of structure from motion; `tpsfm` builds on it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["load_weights", "train"]


def train(
    photos: str | Path,
    config: str = "s",
    out: str | Path = "weights.safetensors",
    resume: bool = False,
    overrides: list[str] | None = None,
    device: str = "auto",
    licence: str | None = None,
) -> dict[str, float]:
    """Learn features from a folder of plain photos.

    Args:
        photos: the folder, searched with all below it; 50 photos are enough to start.
        config: a shipped configuration (`s`, `vgg`, `dcn`, `swin`) or a YAML file.
        out: the weights to write; beside them a checkpoint, a CSV, curves, and a model card (`.md`).
        resume: go on from the checkpoint beside `out`, exactly; begin where there is none.
        overrides: "key=value" with dotted keys, e.g. "optimization.steps=1000".
        device: "auto", "cpu", "cuda" or "cuda:1".
        licence: what the model card shall say of the photos' licences.

    Returns:
        The last validation: accuracy, repeatability, mma1, mma3 (see `tpr.validation.validate`).

    Raises:
        tpr.config.ConfigError: it can't run as asked; the message says why.
        tpr.engine.TrainingStopped: the loss was not finite, or the descriptors collapsed.
    """
    from tpr.config import ConfigError, load_config
    from tpr.engine import Trainer

    photos, out = Path(photos), Path(out)
    if not photos.is_dir():
        raise ConfigError(f"{photos}: no such folder of photos")
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the weights' name must end in .safetensors")
    experiment = load_config(config, overrides)
    checkpoint = out.with_suffix(".checkpoint")
    if checkpoint.exists() and not resume:
        raise ConfigError(f"{checkpoint} is there already: resume it, delete it, or write elsewhere")
    trainer = Trainer(photos, experiment, out, device, licence)
    if checkpoint.exists():
        trainer.resume()
    trainer.run()
    return trainer.figures


def __getattr__(name: str) -> object:
    if name == "load_weights":
        from tpr.weights import load_weights

        return load_weights
    raise AttributeError(f"module 'tpr' has no attribute '{name}'")

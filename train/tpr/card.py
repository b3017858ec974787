"""The model card of trained weights: data, training, figures."""

from __future__ import annotations

import os
import platform
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from omegaconf import OmegaConf

from tpr.config import plain
from tpr.monitor import peak_memory
from tpr.networks.base import parameters_of

if TYPE_CHECKING:
    from tpr.engine import Trainer

LICENCES = ("licences", "licenses", "LICENCE", "LICENSE", "LICENCE.txt", "LICENSE.txt")


def hardware(device: torch.device) -> str:
    """What the network was trained on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def cpu_lines() -> list[str]:
    """What Linux says of the processor; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def sources(paths: list[Path], folder: Path) -> dict[str, int]:
    """How many photos come from each folder below `folder`."""
    parents = (path.parent for path in paths)
    counts = Counter(p.relative_to(folder).as_posix() if p.is_relative_to(folder) else p.as_posix() for p in parents)
    return {name if name != "." else folder.name: count for name, count in sorted(counts.items())}


def licences(folder: Path, stated: str | None) -> list[str]:
    """What is known of the photos' licences: as stated, and the first line of each text that lies with them."""
    found = [stated] if stated else []
    for name in LICENCES:
        path = folder / name
        texts = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path] * path.is_file()
        for text in texts:
            lines = [line.strip(" #*\t") for line in text.read_text(errors="replace").splitlines()]
            first = next((line for line in lines if any(c.isalnum() for c in line)), "")
            found.append(f"`{text.relative_to(folder).as_posix()}`: {first[:100]}")
    return found or ["not stated"]


def write_card(trainer: Trainer) -> Path:
    """Write `<out>.md` beside a trained network's weights."""
    config, data = trainer.config, trainer.data
    photos = sources(data.photos.paths, data.folder)
    seconds = trainer.seconds
    lines = [
        f"# {trainer.out.name}",
        "",
        f"Local features of the TPR learner: network `{config.network.name}`, "
        f"{parameters_of(trainer.learner.target):,} parameters, descriptors of {trainer.learner.target.dim} "
        "dimensions. Trained from plain photos without labels, negative pairs or pretrained weights.",
        "",
        "## Data",
        "",
        f"{len(data.photos)} photos ({len(data.photos.skipped)} skipped):",
        "",
        "| source | photos |",
        "|---|---|",
        *[f"| {name} | {count} |" for name, count in photos.items()],
        "",
        *([f"{len(data.matched)} pairs of them share landmarks of a map.", ""] if data.matched else []),
        "Licences:",
        "",
        *[f"- {line}" for line in licences(data.folder, trainer.licence)],
        "",
        "## Training",
        "",
        f"{trainer.step} steps of {config.optimization.batch} pairs in {seconds:.0f} s "
        f"({2 * config.optimization.batch * trainer.step / max(seconds, 1e-9):.0f} images/s, "
        f"{100 * trainer.waited / max(seconds, 1e-9):.1f} % of it waiting for data) on {hardware(trainer.device)}, "
        f"{trainer.processes.count} process(es), peak memory {peak_memory(trainer.device):.2f} GiB, "
        f"PyTorch {torch.__version__}.",
        "",
        "```yaml",
        OmegaConf.to_yaml(OmegaConf.create(plain(config))).strip(),
        "```",
        "",
        "## Figures",
        "",
        f"On {config.validation.pairs} pairs of synthetic views of photos that were held out:",
        "",
        "| figure | value |",
        "|---|---|",
        *[f"| {name} | {value:.4f} |" for name, value in trainer.figures.items()],
        "",
    ]
    path = trainer.out.with_suffix(".md")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path

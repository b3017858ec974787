"""The training loop: schedules, validation, a log, checkpoints that resume exactly."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import asdict
from pathlib import Path

import torch

from tpr.config import Config, ConfigError
from tpr.learner import Learner
from tpr.networks import build_network
from tpr.photos import Photos, find_photos, is_validation
from tpr.validation import validate, validation_pairs
from tpr.views import Views
from tpr.weights import save_weights


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Rises linearly to 1 over the warm-up, then falls to 0 as half a cosine."""
    return min(1.0, (step + 1) / max(warmup, 1)) * half_cosine(step, steps)


def half_cosine(step: int, steps: int) -> float:
    """From 1 at the first step to 0 at the last."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


class Trainer:
    """One experiment: build it, `run` it, and it leaves weights, a checkpoint and a CSV behind.

    Args:
        photos: the folder of plain photos.
        config: the experiment.
        out: the weights file to write; `<out>.checkpoint` and `<out>.csv` lie beside it.
        device: where to train.
    """

    def __init__(self, photos: str | Path, config: Config, out: str | Path, device: str = "cpu"):
        self.config, self.out, self.device = config, Path(out), device
        folder = Path(photos)
        paths = find_photos(folder)
        held_out = [p for p in paths if is_validation(p, folder, config.validation_share)]
        self.photos = Photos([p for p in paths if p not in set(held_out)], device=device)
        validation = Photos(held_out, device=device)
        if not len(self.photos) or not len(validation):
            raise ConfigError(f"{folder}: {len(paths)} photos are too few to train and validate with")
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        network = build_network(config.network.name, **config.network.options)
        plan = config.optimization
        learner = Learner(network, config.loss, plan.points, config.sharpening)
        self.learner = learner.to(device, memory_format=torch.channels_last)
        trainable = [p for p in self.learner.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=plan.rate, weight_decay=plan.weight_decay)
        self.validation = validation_pairs(
            validation, Views(config.validation_size, config.views.warp, config.views.light), config.validation_pairs
        )
        self.step, self.seconds = 0, 0.0

    @property
    def checkpoint(self) -> Path:
        return self.out.with_suffix(".checkpoint")

    def state(self) -> dict:
        return {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "config": asdict(self.config),
        }

    def save(self) -> None:
        """Replace the checkpoint and the weights (the target encoder's, an average over steps)."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".checkpoint.partial")
        torch.save(self.state(), partial)
        partial.replace(self.checkpoint)
        network = self.config.network
        save_weights(self.out, self.learner.target, network.name, network.options)

    def resume(self) -> None:
        """Go on exactly where the checkpoint was written."""
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]

    def update(self) -> dict[str, float]:
        """One step of training; returns the terms of the loss."""
        plan, steps = self.config.optimization, self.config.optimization.steps
        for group in self.optimizer.param_groups:
            group["lr"] = plan.rate * warmup_cosine(self.step, steps, plan.warmup)
        grown = min(1.0, 2 * self.step / steps)
        strength = plan.strength[0] + (plan.strength[1] - plan.strength[0]) * grown
        self.learner.train()
        pair = self.config.views.draw(self.photos, plan.batch, strength, self.generator)
        terms = self.learner(pair, self.generator)
        self.optimizer.zero_grad()
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), plan.clip)
        self.optimizer.step()
        self.learner.update_target(1 - (1 - plan.momentum) * half_cosine(self.step, steps))
        self.step += 1
        return {name: value.item() for name, value in terms.items()}

    def run(self, every: int = 200) -> None:
        """Train to the last step; validate, log and save each `every` steps."""
        sums: dict[str, float] = {}
        while self.step < self.config.optimization.steps:
            start = time.perf_counter()
            terms = self.update()
            self.seconds += time.perf_counter() - start
            if not math.isfinite(terms["loss"]):
                raise FloatingPointError(
                    f"the loss is not finite at step {self.step}; {self.checkpoint} is the last good"
                )
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value / every
            if self.step % every == 0 or self.step == self.config.optimization.steps:
                row = {"step": self.step, "seconds": round(self.seconds, 1), **sums}
                row |= validate(self.learner.target, self.validation)
                self.log(row)
                self.save()
                sums = {}

    def log(self, row: dict[str, float]) -> None:
        """Append a row to the CSV and print it."""
        path = self.out.with_suffix(".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)

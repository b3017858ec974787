"""The training loop: schedules, validation, a log, checkpoints that resume exactly."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import torch

from tpr.card import write_card
from tpr.checkpoint import read_checkpoint, write_checkpoint
from tpr.config import Config, ConfigError, plain
from tpr.data import Data, read_folder
from tpr.landmarks import LandmarkViews
from tpr.learner import Learner
from tpr.method import Labels
from tpr.monitor import Monitor, peak_memory
from tpr.networks import build_network
from tpr.pairs import LandmarkPair, MixedPair, Pair, ViewPair
from tpr.parallel import Processes
from tpr.randomness import generator_for
from tpr.schedules import curriculum, momentum, starts_generation, warmup_cosine
from tpr.start import start_from
from tpr.validation import validate
from tpr.vlad import Vocabulary
from tpr.vocabulary import build_vocabulary
from tpr.weights import save_weights

log = logging.getLogger("tpr")

CHECK = 10
STATISTICS = 8  # batches that batch statistics are measured on


class TrainingStopped(RuntimeError):
    """Training can't go on; the message says why and where the last good state is."""


class Trainer:
    """One experiment: build it, `run` it, and it leaves weights, their card, a checkpoint and a CSV behind.

    Every step draws from generators of its own, seeded by (seed, purpose, process, step); so a resumed run needs no
    random state, and the views of the next step can be drawn while this one is learned from.

    Args:
        photos: the folder of plain photos, or what is to be learned from.
        config: the experiment.
        out: the weights file to write; `<out>.checkpoint`, `.csv`, `.curves` and `.md` lie beside it.
        device: "auto", "cpu", "cuda" or "cuda:1".
        licence: what the model card says of the photos' licences, beside a `licences` folder among them.

    Raises:
        ConfigError: there are too few photos, or the processes can't share the batch.
    """

    def __init__(
        self,
        photos: str | Path | Data,
        config: Config,
        out: str | Path,
        device: str = "cpu",
        licence: str | None = None,
    ):
        self.config, self.out, self.licence = config, Path(out), licence
        self.processes = Processes(device)
        self.device = self.processes.device
        plan = config.optimization
        if plan.batch % self.processes.count:
            raise ConfigError(f"optimization.batch={plan.batch} can't be shared by {self.processes.count} processes")
        self.data = photos if isinstance(photos, Data) else read_folder(Path(photos), config, self.device)
        self.landmarks = LandmarkViews(config.views, self.data.matched, config.method.points)
        torch.manual_seed(config.seed)
        try:
            network = build_network(config.network.name, **config.network.options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"network: {error}") from error
        self.vocabulary: Vocabulary | None = None
        if config.start:
            self.vocabulary = start_from(network, config.start, self.data.photos)
        layout = torch.channels_last if config.run.channels_last else torch.contiguous_format
        self.learner = Learner(network, config.loss, config.method, config.run.bfloat16)
        self.learner.to(self.device, memory_format=layout)  # type: ignore[call-overload]  # not in its stub
        if config.run.compile:
            self.learner.online.compile()
            self.learner.target.compile()
        self.trainable = [p for p in self.learner.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trainable, lr=plan.rate, weight_decay=plan.weight_decay)
        self.typical = self.draw_typical()
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)
            torch.backends.cudnn.benchmark = True
        self.step, self.seconds, self.waited = 0, 0.0, 0.0
        self.figures: dict[str, float] = {}
        self.sums: dict[str, float] = {}

    @property
    def checkpoint(self) -> Path:
        return self.out.with_suffix(".checkpoint")

    def state(self) -> dict:
        """All that a run is, between two steps."""
        return {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
            "waited": self.waited,
            "figures": self.figures,
            "sums": self.sums,
            "config": plain(self.config),
            "photos": self.data.digest,
            "processes": self.processes.count,
        }

    def save(self) -> None:
        """Replace the checkpoint and the weights (the target encoder's, an average over steps)."""
        self.measure_statistics()
        if not self.processes.first:
            return
        write_checkpoint(self.checkpoint, self.state())
        network = self.config.network
        save_weights(self.out, self.learner.target, network.name, network.options)

    def resume(self) -> None:
        """Go on exactly where the checkpoint was written.

        Raises:
            ConfigError: it is damaged, or of another experiment.
        """
        state = read_checkpoint(self.checkpoint, plain(self.config), self.data.digest, self.processes.count)
        try:
            self.learner.load_state_dict(state["learner"])
        except RuntimeError as error:
            raise ConfigError(f"{self.checkpoint} is of another version of tpr; delete it to begin anew") from error
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["generator"])
        for name in ("step", "seconds", "waited", "figures", "sums"):
            setattr(self, name, state[name])

    def draw(self, step: int) -> Pair:
        """This process's share of the pairs of a step: warps of photos, and photos that share landmarks."""
        plan, views = self.config.optimization, self.config.views
        generator = generator_for(self.config.seed, "views", self.processes.rank, step)
        strength = curriculum(step, plan.steps, plan.strength)
        count = plan.batch // self.processes.count
        real = round(views.landmark_fraction * count) if self.data.matched else 0
        parts: list[ViewPair | LandmarkPair] = []
        if real < count:
            parts.append(views.draw(self.data.photos, count - real, strength, generator))
        if real:
            parts.append(self.landmarks.draw(self.data.photos, real, strength, generator))
        return parts[0] if len(parts) == 1 else MixedPair(*parts)

    def draw_ahead(self, step: int) -> Pair:
        """As `draw`, in a second thread; on a GPU beside the step before, whose kernels it doesn't wait for."""
        if self.device.type != "cuda":
            return self.draw(step)
        with torch.cuda.stream(self.stream):
            # memory that the step before the last gave back may be in use until its last kernel has run
            self.stream.wait_stream(torch.cuda.default_stream(self.device))
            pair = self.draw(step)
            self.stream.synchronize()
        return pair

    def draw_typical(self) -> list[torch.Tensor]:
        """Images like those that are trained on, always the same: what batch statistics are measured on."""
        count = self.config.optimization.batch // self.processes.count
        found = []
        for index in range(STATISTICS):
            generator = generator_for(self.config.seed, "statistics", self.processes.rank, index)
            pair = self.config.views.draw(self.data.photos, count, self.config.optimization.strength[1], generator)
            found.append(torch.cat([pair.first, pair.second]))
        return found

    def measure_statistics(self) -> None:
        """Measure the target encoder's batch statistics, as they are used outside training."""
        generator = generator_for(self.config.seed, "statistics", self.processes.rank)
        self.learner.measure_statistics(self.typical, generator)
        buffers = [*self.learner.target.buffers(), *self.learner.target_project.buffers()]
        self.processes.average([buffer for buffer in buffers if buffer.is_floating_point()])

    def update(self, pair: Pair) -> dict[str, torch.Tensor]:
        """One step of training; returns the terms of the loss, on the device."""
        plan, step = self.config.optimization, self.step
        soft = self.config.method.labels is Labels.generation
        if soft and starts_generation(step, plan.steps, plan.generations):
            self.measure_statistics()
            self.learner.begin_generation()
        if not self.learner.fixed and step >= self.config.method.fixed_after * plan.steps:
            if step > 0 or not self.config.start:
                self.measure_statistics()
            self.learner.fix_statistics()
        for group in self.optimizer.param_groups:
            group["lr"] = plan.rate * warmup_cosine(step, plan.steps, plan.warmup)
        self.learner.train()
        generator = generator_for(self.config.seed, "points", self.processes.rank, step)
        weighted = step >= self.config.method.weighted_after * plan.steps
        terms = self.learner(pair, generator, curriculum(step, plan.steps, plan.alpha), weighted)
        self.optimizer.zero_grad()
        terms["loss"].backward()
        self.share_gradients()
        torch.nn.utils.clip_grad_norm_(self.trainable, plan.clip)
        self.optimizer.step()
        self.learner.update_target(momentum(step, plan.steps, plan.momentum))
        self.step += 1
        return {name: value.detach() for name, value in terms.items()}

    def share_gradients(self) -> None:
        """Means over the processes of gradients and of batch normalisation's running statistics."""
        gradients = [p.grad for p in self.trainable if p.grad is not None]
        statistics = [b for b in self.learner.buffers() if b.is_floating_point()]
        self.processes.average(gradients + statistics)

    def run(self, until: int | None = None) -> None:
        """Train to the last step, or to step `until`.

        Raises:
            TrainingStopped: the loss is not finite, or the descriptors have collapsed.
        """
        steps = self.config.optimization.steps
        end = min(until or steps, steps)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.monitor = Monitor(self.out, self.step, steps, self.config.run.tensorboard, self.processes.first)
        with closing(self.monitor), ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as ahead:
            self.loop(end, ahead if self.config.run.prefetch else None)
        if self.step == steps:
            self.finish()
        self.processes.close()

    def loop(self, end: int, ahead: ThreadPoolExecutor | None) -> None:
        """Steps up to `end`; what was measured is looked at every few, before anything is saved."""
        plan, run, every = self.config.optimization, self.config.run, self.config.validation.every
        saved = clock = time.perf_counter()
        recent: list[dict[str, torch.Tensor]] = []
        coming = ahead.submit(self.draw_ahead, self.step) if ahead and self.step < end else None
        while self.step < end:
            start = time.perf_counter()
            pair = coming.result() if coming else self.draw(self.step)
            self.waited += time.perf_counter() - start
            coming = ahead.submit(self.draw_ahead, self.step + 1) if ahead and self.step + 1 < end else None
            recent.append(self.update(pair))
            row = self.step % every == 0 or self.step == plan.steps
            check = self.step % CHECK == 0
            due = self.step == end or run.minutes == 0
            due = due or (check and self.processes.decide(time.perf_counter() - saved >= 60 * run.minutes))
            if check or row or due:
                self.check(recent)
                now = time.perf_counter()
                self.seconds, clock, recent = self.seconds + now - clock, now, []
                speed = 2 * plan.batch * self.step / self.seconds
                self.monitor.show(self.step, self.latest["loss"], self.latest["rank"], speed)
            if row:
                self.record(speed)
                clock = time.perf_counter()
            if due:
                self.save()
                saved = time.perf_counter()

    def check(self, recent: list[dict[str, torch.Tensor]]) -> None:
        """Sum what the last steps gave, over all processes, and stop where it makes no sense to go on."""
        names = list(recent[0])
        values = torch.stack([torch.stack([terms[name].float() for name in names]) for terms in recent]).mean(0)
        distribution = self.learner.distribution()
        values = torch.cat([values, torch.stack([value.to(values.dtype) for value in distribution.values()])])
        self.processes.average([values])
        self.latest = dict(zip([*names, *distribution], values.tolist(), strict=True))
        for name in names:
            value = self.latest[name]
            self.sums[name] = self.sums.get(name, 0.0) + value * len(recent)
        self.sums["steps"] = self.sums.get("steps", 0) + len(recent)
        kept = f"{self.checkpoint} is the last good state" if self.checkpoint.exists() else "nothing was saved yet"
        if not all(math.isfinite(value) for value in self.latest.values()):
            raise TrainingStopped(
                f"the loss is not finite at step {self.step}: try a lower optimization.rate; {kept}, beside its weights"
            )
        run = self.config.run
        least = run.least_rank * self.learner.online.dim
        if self.step > self.config.optimization.warmup and (
            self.latest["rank"] < least or self.latest["spread"] < run.least_spread
        ):
            raise TrainingStopped(
                f"the descriptors have collapsed at step {self.step}: effective rank {self.latest['rank']:.1f} "
                f"(least {least:.1f}), spread {self.latest['spread']:.3f} (least {run.least_spread}): "
                f"give the terms against collapse more weight; {kept}"
            )

    def record(self, speed: float) -> None:
        """Validate and log the means since the last time."""
        count = self.sums.pop("steps")
        means = {name: total / count for name, total in self.sums.items()}
        means |= {name: self.latest[name] for name in ("rank", "spread")}
        self.sums = {}
        self.measure_statistics()
        self.figures = validate(self.learner.target, self.data.pairs)
        if self.data.hours is not None:
            across = validate(self.learner.target, self.data.hours, limit=256, batch=8)
            self.figures |= {"hours": across["accuracy"], "hours_mma3": across["mma3"]}
        waiting = self.waited / self.seconds
        usage = {"images_per_second": speed, "waiting": waiting, "memory_gib": peak_memory(self.device)}
        self.monitor.log({"step": self.step, "seconds": round(self.seconds, 1)} | means | self.figures | usage)

    def finish(self) -> None:
        """Write the weights with their vocabulary, and the model card."""
        if not self.processes.first:
            return
        network, size = self.config.network, self.config.run.vocabulary
        vocabulary = self.vocabulary
        if size:
            vocabulary = build_vocabulary(self.learner.target, self.data.photos, size, self.config.seed)
        save_weights(self.out, self.learner.target, network.name, network.options, vocabulary)
        write_card(self)

"""Training in processes of its own: killed and resumed it is one run, and several share each batch."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from tpr.config import load_config
from tpr.engine import Trainer

from tests.support.training import SHORT

TRAIN = """
import sys, torch, tpr
torch.set_num_threads(1)
tpr.train(sys.argv[1], out=sys.argv[2], resume=True, overrides=sys.argv[3:], device="cpu")
"""


def train_command(photos: Path, out: Path, overrides: list[str]) -> list[str]:
    return [sys.executable, "-c", TRAIN, str(photos), str(out), *overrides]


def state_digest(checkpoint: Path) -> str:
    """Of every bit of the encoders, the optimizer and the random state."""
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 20
    digest = hashlib.blake2b()

    def add(value) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                add(value[key])
        else:
            digest.update(repr(value).encode())

    for name in ("learner", "optimizer", "generator", "figures", "sums"):
        add(state[name])
    return digest.hexdigest()


def losses(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def steps_so_far(path: Path) -> int:
    return int(losses(path)[-1][0]) if path.exists() and losses(path) else 0


def test_killed_and_resumed_is_bit_for_bit_one_run(photo_folder, tmp_path):
    """Through the start of a generation, whose teacher must survive too, and of fixed batch statistics."""
    overrides = [*SHORT, "method.labels=generation", "method.projector=mlp", "method.fixed_after=0.6"]
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    subprocess.run(train_command(photo_folder, whole, overrides), check=True, capture_output=True)
    process = subprocess.Popen(train_command(photo_folder, cut, overrides), stderr=subprocess.DEVNULL)
    for _ in range(3000):
        if steps_so_far(cut.with_suffix(".csv")) >= 10:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was to be killed on its way"
    reached = torch.load(cut.with_suffix(".checkpoint"), weights_only=True)["step"]
    assert 9 <= reached < 20
    subprocess.run(train_command(photo_folder, cut, overrides), check=True, capture_output=True)
    assert state_digest(cut.with_suffix(".checkpoint")) == state_digest(whole.with_suffix(".checkpoint"))
    assert losses(cut.with_suffix(".csv")) == losses(whole.with_suffix(".csv"))
    assert cut.read_bytes() == whole.read_bytes()


def test_two_processes_share_a_batch_and_average(photo_folder, tmp_path):
    """Under torchrun each process draws its half of the batch; one step is that of the two gradients' mean."""
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    out = tmp_path / "two.safetensors"
    overrides = [
        *SHORT,
        "optimization.steps=1",
        "optimization.warmup=1",
        "optimization.clip=1e9",
        "optimization.weight_decay=0",
    ]
    overrides += ["optimization.batch=8", "run.prefetch=false"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(script), str(photo_folder), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    state = torch.load(out.with_suffix(".checkpoint"), weights_only=True)
    assert state["processes"] == 2

    config = load_config("s", overrides)
    gradients, statistics = [], []
    for rank in range(2):
        trainer = Trainer(photo_folder, config, tmp_path / "one.safetensors")
        trainer.processes.rank, trainer.processes.count = rank, 2
        seen = {}

        def keep(seen=seen, trainer=trainer) -> None:
            seen["gradients"] = [p.grad.clone() for p in trainer.trainable if p.grad is not None]
            seen["statistics"] = [b.clone() for b in trainer.learner.buffers() if b.is_floating_point()]

        trainer.share_gradients = keep
        pair = trainer.draw(0)
        assert len(pair.first) == 4
        trainer.update(pair)
        gradients.append(seen["gradients"])
        statistics.append(seen["statistics"])
    assert not torch.allclose(gradients[0][0], gradients[1][0]), "the processes draw different views"

    # Adam's first moment after one step is a tenth of the gradient.
    moments = [entry["exp_avg"] for entry in state["optimizer"]["state"].values()]
    for moment, a, b in zip(moments, *gradients, strict=True):
        assert torch.allclose(10 * moment, (a + b) / 2, atol=1e-4 * float(a.abs().max() + b.abs().max()) + 1e-6)
    names = [name for name, buffer in trainer.learner.named_buffers() if buffer.is_floating_point()]
    for name, a, b in zip(names, *statistics, strict=True):
        if not name.startswith("target"):
            assert torch.allclose(state["learner"][name], (a + b) / 2, atol=1e-5), name


CLOCKS = TRAIN.replace(
    "tpr.train(",
    """import os, time
from types import SimpleNamespace
import tpr.engine
speed = 1000 if os.environ["RANK"] == "1" else 1
tpr.engine.time = SimpleNamespace(perf_counter=lambda: speed * time.perf_counter())
tpr.train(""",
)


def test_processes_whose_clocks_differ_save_at_the_same_steps(photo_folder, tmp_path):
    """The second one's clock is a thousand times as fast: by it alone every check were due for a checkpoint."""
    script = tmp_path / "train.py"
    script.write_text(CLOCKS)
    overrides = [*SHORT, "run.minutes=1", "validation.every=15", "run.prefetch=false"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", str(script), str(photo_folder), str(tmp_path / "w.safetensors")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert torch.load(tmp_path / "w.checkpoint", weights_only=True)["step"] == 20

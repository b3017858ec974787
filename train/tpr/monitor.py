"""Progress of a run: a bar, a CSV, curves for TensorBoard."""

from __future__ import annotations

import csv
import resource
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def peak_memory(device: torch.device) -> float:
    """The most memory that was in use so far, GiB: on a GPU its own, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class Table:
    """A CSV log that a resumed run continues from its step.

    Args:
        path: the file.
        step: rows beyond this step, of a run that was cut off, are dropped.
    """

    def __init__(self, path: Path, step: int = 0):
        self.path = path
        rows = self.rows() if step else []
        path.unlink(missing_ok=True)
        for row in rows:
            if int(row["step"]) <= step:
                self.add(row)

    def rows(self) -> list[dict[str, str]]:
        """What is written so far."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if row.get("step")]

    def add(self, row: dict) -> None:
        """Append a row; the first one names the columns."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)


class Monitor:
    """Reports the progress of a run; does nothing in processes other than the first.

    Args:
        out: the weights file; `<out>.csv` and `<out>.curves` lie beside it.
        step, steps: where the run starts, and ends.
        tensorboard: whether to write curves.
        active: whether this process shows anything.
    """

    def __init__(self, out: Path, step: int, steps: int, tensorboard: bool, active: bool):
        self.active = active
        if not active:
            return
        self.table = Table(out.with_suffix(".csv"), step)
        self.curves = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.curves = SummaryWriter(str(out.with_suffix(".curves")), purge_step=step + 1)
        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.fields[now]}"), TimeRemainingColumn())
        console = Console(stderr=True)
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task("", total=steps, completed=step, now="")
        self.bar.start()
        self.accuracy = ""

    def show(self, step: int, loss: float, rank: float, speed: float) -> None:
        """Update the progress bar."""
        if self.active:
            now = f"loss {loss:.3f}  rank {rank:.1f}{self.accuracy}  {speed:.0f} images/s"
            self.bar.update(self.task, completed=step, now=now)

    def log(self, row: dict[str, float]) -> None:
        """Write a row of figures: to the CSV, the curves and the console."""
        if not self.active:
            return
        self.table.add({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
        if self.curves:
            for name, value in row.items():
                self.curves.add_scalar(name, value, row["step"])
            self.curves.flush()
        if "accuracy" in row:
            self.accuracy = f"  accuracy {row['accuracy']:.3f}"
        line = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        self.bar.console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """End the bar and the files."""
        if self.active:
            self.bar.stop()
            if self.curves:
                self.curves.close()

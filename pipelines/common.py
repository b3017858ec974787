"""What every benchmark shares: rows that are computed once, tables in Markdown, and what machine it was."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from pathlib import Path

import click
import numpy as np

from tpsfm.errors import TpsfmError

PACKAGES = {"torch": "torch", "pycolmap": "pycolmap", "opencv": "opencv-python-headless", "tpsfm": "tpsfm"}


class Pipeline(click.Command):
    """A command that ends in one line where a user can mend what is wrong: `@click.command(cls=Pipeline)`."""

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except TpsfmError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)


class Results:
    """The results of a benchmark, which goes on where it stopped.

    Args:
        out: folder of `results.json` and `results.md`; None keeps nothing.
        title: heading of the Markdown.
        options: whatever the rows depend on beside their keys (limits, a digest of weights); a folder that holds
            rows made with other options is refused.

    Raises:
        TpsfmError: `out` holds rows of another benchmark or of other options, or can't be read.
    """

    def __init__(self, out: Path | None, title: str, options: Mapping | None = None):
        self.out, self.title, self.options = out, title, _plain(dict(options or {}))
        self.rows: dict[str, dict] = {}
        self._text: list[str] = []
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            self._resume(out / "results.json")

    def _resume(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            kept = json.loads(path.read_text())
            same = (kept["title"], kept["options"]) == (self.title, self.options)
            self.rows = dict(kept["rows"])
        except (OSError, ValueError, KeyError, TypeError):
            raise TpsfmError(f"'{path}' holds no results of this benchmark; choose another --out") from None
        if not same:
            raise TpsfmError(f"'{path}' was made with other options; choose another --out or delete it")

    def row(self, key: str, compute: Callable[[], dict]) -> dict:
        """The row of that key: the one kept, or `compute()`, which is kept at once.

        Its values are numbers, strings and lists of these; a number that isn't finite becomes None.
        """
        if key not in self.rows:
            self.rows[key] = _plain(compute())
            self._save()
        return self.rows[key]

    def table(self, columns: Mapping[str, str], rows: Mapping[str, Mapping] | None = None) -> None:
        """Print a Markdown table; `results.md` will hold it too.

        Args:
            columns: names of values and how to format them: {"MMA@3": ".1f"}; a value that is missing shows as –.
            rows: what to show, by the heading of each line; all rows if left out.
        """
        lines = ["| | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
        for heading, values in (self.rows if rows is None else rows).items():
            cells = [_cell(values.get(name), style) for name, style in columns.items()]
            lines.append(f"| {heading} | " + " | ".join(cells) + " |")
        self.say("\n".join(lines))

    def published(self, text: str, columns: Sequence[str], style: str, rows: Mapping[str, Sequence[float]]) -> None:
        """Say that, and print a table of what others measured: a value for each column."""
        self.say(text)
        self.table(
            dict.fromkeys(columns, style),
            {name: dict(zip(columns, values, strict=True)) for name, values in rows.items()},
        )

    def say(self, text: str) -> None:
        """Print a paragraph; `results.md` will hold it too."""
        print(text + "\n", flush=True)
        self._text.append(text)

    def write(self) -> None:
        """Write `results.json` and `results.md`."""
        if self.out is None:
            return
        self._save()
        told = ", ".join(f"{name} {value}" for name, value in machine().items() if value)
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        parts = [f"# {self.title}", *self._text, *([f"Options: {options}."] if options else []), f"Made with {told}."]
        (self.out / "results.md").write_text("\n\n".join(parts) + "\n")

    def _save(self) -> None:
        if self.out is None:
            return
        content = {"title": self.title, "options": self.options, "machine": machine(), "rows": self.rows}
        fresh = self.out / "results.json.part"
        fresh.write_text(json.dumps(content, indent=1, allow_nan=False))
        os.replace(fresh, self.out / "results.json")


def machine() -> dict[str, str | int]:
    """Hardware and versions: cpu, cores (that this process may use), memory, gpu ("" for none), python, packages."""
    import torch

    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{gigabytes:.0f} GiB",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "python": platform.python_version(),
        **{name: metadata.version(package) for name, package in PACKAGES.items()},
    }


def load(features: str, weights: Path | None, **limits):
    """The extractor of that name; `weights` are those of tpr, None for the shipped ones, and no matter to others.

    Raises:
        TpsfmError: as `tpsfm.load_extractor`.
    """
    from tpsfm.features import load_extractor

    return load_extractor(features, **limits, **({"weights": weights} if features == "tpr" else {}))


def weights_version(weights: Path | None) -> str:
    """The start of the digest of tpr's weights, the shipped ones for None.

    Raises:
        TpsfmError: there is no such file.
    """
    from tpr.weights import shipped_weights, weights_digest

    path = weights or shipped_weights()
    if not path.is_file():
        raise TpsfmError(f"no weights '{path}'")
    return weights_digest(path)[:8]


def peak_memory() -> float:
    """MiB: the most that this process has held so far (getrusage would count its parent's too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_process(function: Callable, *arguments):
    """What `function(*arguments)` gives, and MiB at its peak, in a fresh process.

    Raises:
        TpsfmError: the process died, as where memory runs out; what the function raises comes through.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_with_peak, function, arguments).result()
        except BrokenProcessPool:
            raise TpsfmError(f"'{function.__name__}' ended its process; was there memory enough?") from None


def _with_peak(function: Callable, arguments: tuple):
    return function(*arguments), peak_memory()


def _cpu() -> str:
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    found = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def _cell(value, style: str) -> str:
    return "–" if value is None else format(value, style)


def _plain(value):
    """Arrays, paths and numpy's numbers as what JSON holds."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

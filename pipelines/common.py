"""Shared by all benchmarks: results that resume, tables in Markdown, and a description of the machine."""

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
from typing import Any, TypeVar

import click
import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features import Extractor, load_extractor
from tpsfm.io.atomic import write_atomic

T = TypeVar("T")

PACKAGES = {"torch": "torch", "pycolmap": "pycolmap", "opencv": "opencv-python-headless", "tpsfm": "tpsfm"}


class Pipeline(click.Command):
    """A click command that prints a `TpsfmError` as one line: `@click.command(cls=Pipeline)`."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except TpsfmError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)


class Results:
    """The results of a benchmark, saved row by row so that an interrupted run resumes.

    Args:
        out: folder of `results.json` and `results.md`; None writes no files.
        title: heading of the Markdown.
        options: what the rows depend on besides their keys (limits, a digest of weights); a folder with rows made
            with other options is refused.

    Raises:
        TpsfmError: `out` holds rows of another benchmark or of other options, or can't be read.
    """

    def __init__(self, out: Path | None, title: str, options: Mapping | None = None) -> None:
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
            saved = json.loads(path.read_text())
            same = (saved["title"], saved["options"]) == (self.title, self.options)
            self.rows = dict(saved["rows"])
        except (OSError, ValueError, KeyError, TypeError):
            raise TpsfmError(f"'{path}' holds no results of this benchmark; choose another --out") from None
        if not same:
            raise TpsfmError(f"'{path}' was made with other options; choose another --out or delete it")

    def row(self, key: str, compute: Callable[[], dict]) -> dict:
        """The saved row of that key, or else `compute()`, which is saved at once.

        Values are numbers, strings and lists of these; a number that isn't finite becomes None.
        """
        if key not in self.rows:
            self.rows[key] = _plain(compute())
            self._save()
        return self.rows[key]

    def table(self, columns: Mapping[str, str], rows: Mapping[str, Mapping] | None = None) -> None:
        """Print a Markdown table, and add it to `results.md`.

        Args:
            columns: names of values and their formats, {"MMA@3": ".1f"}; a missing value is shown as –.
            rows: values by the heading of each line; all rows if left out.
        """
        lines = ["| | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
        for heading, values in (self.rows if rows is None else rows).items():
            cells = [_cell(values.get(name), style) for name, style in columns.items()]
            lines.append(f"| {heading} | " + " | ".join(cells) + " |")
        self.say("\n".join(lines))

    def published(self, text: str, columns: Sequence[str], style: str, rows: Mapping[str, Sequence[float]]) -> None:
        """Print `text` and a table of published results: a value for each column."""
        self.say(text)
        self.table(
            dict.fromkeys(columns, style),
            {name: dict(zip(columns, values, strict=True)) for name, values in rows.items()},
        )

    def say(self, text: str) -> None:
        """Print a paragraph, and add it to `results.md`."""
        print(text + "\n", flush=True)
        self._text.append(text)

    def write(self) -> None:
        """Write `results.json` and `results.md`."""
        if self.out is None:
            return
        self._save()
        made_with = ", ".join(f"{name} {value}" for name, value in machine().items() if value)
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        parts = [
            f"# {self.title}",
            *self._text,
            *([f"Options: {options}."] if options else []),
            f"Made with {made_with}.",
        ]
        (self.out / "results.md").write_text("\n\n".join(parts) + "\n")

    def _save(self) -> None:
        if self.out is None:
            return
        content = {"title": self.title, "options": self.options, "machine": machine(), "rows": self.rows}
        write_atomic(self.out / "results.json", json.dumps(content, indent=1, allow_nan=False))


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


def load(features: str, weights: Path | None, **limits: int) -> Extractor:
    """The extractor of that name; `weights` are those of tpr (None: the shipped ones), ignored for others.

    Raises:
        TpsfmError: as `tpsfm.load_extractor`.
    """
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
    """Peak resident memory of this process so far, MiB (getrusage would include its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_process(function: Callable[..., T], *arguments: object) -> tuple[T, float]:
    """The result of `function(*arguments)` in a fresh process, and that process's peak memory in MiB.

    Raises:
        TpsfmError: the process died, for example out of memory. What the function raises is raised.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_with_peak, function, arguments).result()
        except BrokenProcessPool:
            raise TpsfmError(f"'{function.__name__}' ended its process; it may have run out of memory") from None


def _with_peak(function: Callable[..., T], arguments: tuple) -> tuple[T, float]:
    return function(*arguments), peak_memory()


def _cpu() -> str:
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    found = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def _cell(value: object, style: str) -> str:
    return "–" if value is None else format(value, style)


def _plain(value: Any) -> Any:
    """Arrays, paths and NumPy scalars as JSON values."""
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

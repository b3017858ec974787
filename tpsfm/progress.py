"""How long work tells of itself: nothing for library calls, bars and lines on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Update = Callable[[int, int], None]


class Quiet:
    """Says nothing."""

    @contextmanager
    def bar(self, label: str, total: int | None = None) -> Iterator[Update]:
        """A stretch of work; call what it yields with (done, in all)."""
        yield lambda done, total: None

    def say(self, text: str) -> None:
        """One line to the reader."""


class Terminal(Quiet):
    """Bars by rich where the output is a terminal, else a line when a stretch of work ends."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str, total: int | None = None) -> Iterator[Update]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        with Progress(*columns, *times, console=self.console) as progress:
            task = progress.add_task(label, total=total)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

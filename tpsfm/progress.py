"""Progress reporting: nothing for library calls, bars and lines on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Update = Callable[[int, int], None]


class Progress:
    """Receives progress and shows none of it; subclasses do."""

    @contextmanager
    def bar(self, label: str, total: int | None = None) -> Iterator[Update]:
        """A bar while the block runs; call what it yields with (steps done, steps in all)."""
        yield lambda done, total: None

    def say(self, text: str) -> None:
        """Show one line."""


class Terminal(Progress):
    """Bars by rich where the output is a terminal, else one line at the end of each bar."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str, total: int | None = None) -> Iterator[Update]:
        from rich import progress as rich

        columns = (rich.TextColumn("{task.description:<12}"), rich.BarColumn(), rich.MofNCompleteColumn())
        times = (rich.TimeElapsedColumn(), rich.TextColumn("left"), rich.TimeRemainingColumn())
        with rich.Progress(*columns, *times, console=self.console) as bars:
            task = bars.add_task(label, total=total)
            yield lambda done, total: bars.update(task, completed=done, total=total)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

"""Work done a little ahead of the one who takes its results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor


def in_order(pool: Executor, function: Callable, jobs: Iterable[tuple], ahead: int) -> Iterator[tuple]:
    """Yield (name, function(*arguments)) of each job (name, arguments), in order, with up to `ahead` more under way."""
    waiting = deque()
    for name, arguments in jobs:
        waiting.append((name, pool.submit(function, *arguments)))
        if len(waiting) > ahead:
            name, future = waiting.popleft()
            yield name, future.result()
    for name, future in waiting:
        yield name, future.result()

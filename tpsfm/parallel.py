"""Ordered results of jobs in threads, with bounded prefetch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Name = TypeVar("Name")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[..., Result],
    jobs: Iterable[tuple[Name, tuple[Any, ...]]],
    threads: int | None = None,
    ahead: int | None = None,
    most: int | None = None,
) -> Iterator[tuple[Name, Result]]:
    """Yield (name, function(*arguments)) of each job (name, arguments), in order.

    Args:
        function: what a job calls.
        jobs: drawn one by one, in the caller's thread.
        threads: how many; None for one single-threaded job per core that PyTorch uses: threads that share a small
            matrix product wait for each other, the more so on a busy machine.
        ahead: how many jobs more than the next one to be yielded may be under way or done; as many as threads if None.
        most: jobs at once where `threads` is None; they share the cores.
    """
    settings: dict[str, Any] = {}
    if threads is None:
        import torch

        cores = torch.get_num_threads()
        threads = min(cores, most or cores)
        settings = {"initializer": torch.set_num_threads, "initargs": (cores // threads,)}
    waiting: deque[tuple[Name, Future[Result]]] = deque()
    try:
        with ThreadPoolExecutor(threads, **settings) as pool:
            for job, arguments in jobs:
                waiting.append((job, pool.submit(function, *arguments)))
                if len(waiting) > (threads if ahead is None else ahead):
                    name, future = waiting.popleft()
                    yield name, future.result()
            for name, future in waiting:
                yield name, future.result()
    finally:
        if settings:
            torch.set_num_threads(cores)

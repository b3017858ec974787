"""Ordered results of jobs in threads, with bounded prefetch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

Name = TypeVar("Name")
Result = TypeVar("Result")


def in_order(
    pool: Executor, function: Callable[..., Result], jobs: Iterable[tuple[Name, tuple[Any, ...]]], ahead: int
) -> Iterator[tuple[Name, Result]]:
    """Yield (name, function(*arguments)) of each job (name, arguments), in order, with up to `ahead` more under way."""
    waiting: deque[tuple[Name, Future[Result]]] = deque()
    for job, arguments in jobs:
        waiting.append((job, pool.submit(function, *arguments)))
        if len(waiting) > ahead:
            name, future = waiting.popleft()
            yield name, future.result()
    for name, future in waiting:
        yield name, future.result()


def in_parallel(
    function: Callable[..., Result], jobs: Iterable[tuple[Name, tuple[Any, ...]]]
) -> Iterator[tuple[Name, Result]]:
    """As `in_order`, in as many threads as PyTorch uses: one single-threaded job per core.

    Threads that share a small matrix product wait for each other, the more so on a busy machine; and the caller reads
    and writes meanwhile.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from in_order(pool, function, jobs, threads)
    finally:
        torch.set_num_threads(threads)

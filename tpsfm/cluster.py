"""Jobs on the workers of a Dask cluster (`pip install 'tpsfm[cluster]'`), their results in order."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import logging
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tpsfm.errors import TpsfmError
from tpsfm.progress import Progress

Name = TypeVar("Name")
Result = TypeVar("Result")

_PACKAGES = ("tpsfm", "pycolmap", "torch", "numpy", "opencv-python-headless")  # what results depend on
_ATTEMPTS = 4  # of a batch whose worker or scheduler died
_AHEAD = 2  # batches a thread of the workers that are under way
_SECONDS, _MOST = 1.0, 256  # of work, and jobs, that a batch holds at most; the first ones hold a job each
_PATIENCE = 60.0  # seconds for a scheduler and a first worker to be there, and to come back
_QUIET = {  # as Dask is by default, two workers that wait take a tenth of a core
    "distributed.worker.profile.enabled": "false",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
_AT_FIRST = """from contextlib import suppress
with suppress(ImportError):  # the first batch tells what is wrong
    import tpsfm.reconstruction
"""  # run by a worker that starts here, before it is given work
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

log = logging.getLogger("tpsfm")


@dataclass
class _Batch:
    names: list[Any]
    arguments: tuple
    future: Any = None


class Cluster:
    """The workers of a Dask scheduler. They need no disk in common with this process, but the same tpsfm.

    A batch whose worker dies goes to another worker; where the scheduler is restarted, what was under way is sent
    again.

    Args:
        address: of the scheduler, "tcp://host:8786"; None starts one here, with
        workers: as many processes of one thread each, which go on starting while this process does other work.

    Raises:
        TpsfmError: Dask isn't installed, the scheduler doesn't answer, or it has no workers.
    """

    def __init__(self, address: str | None = None, workers: int = 0) -> None:
        self._local: Any = None
        self._starting = workers
        if address is None:
            self._local = _start(workers)
            address = self._local.scheduler_address
        self.address = str(address)
        try:
            self._client = self._connect()
        except BaseException:
            self.close()
            raise

    @property
    def dashboard(self) -> str:
        """Link of Dask's dashboard."""
        return self._client.dashboard_link

    @property
    def threads(self) -> int:
        """How many batches the workers do at the same time."""
        there = self._client.scheduler_info(n_workers=-1).get("workers", {})  # none while the scheduler is gone
        return sum(worker["nthreads"] for worker in there.values())

    def close(self) -> None:
        """Leave the scheduler, and end one that was started here with its workers."""
        for one in (getattr(self, "_client", None), self._local):
            if one is not None:
                with suppress(OSError, TimeoutError):
                    one.close()

    def run(
        self,
        function: Callable[..., list[Result]],
        jobs: Iterable[tuple[Name, tuple[Any, ...]]],
        *common: Any,
    ) -> Iterator[tuple[Name, Result]]:
        """Yield (name, result) of each job (name, arguments), in order.

        Args:
            function: of a module: takes a list of arguments and `common`, gives as many results. What several of a
                batch have in common is sent once.
            jobs: drawn a little ahead, and sent in batches of a second's work.
            common: arguments of all jobs.

        Raises:
            TpsfmError: a worker has another tpsfm, a batch was lost again and again, or `function` raised it.
        """
        jobs = iter(jobs)
        waiting: deque[_Batch] = deque()
        size = 1
        try:
            while True:
                ahead = _AHEAD * max(self.threads, self._starting, 1)
                while len(waiting) < ahead and (some := list(islice(jobs, size))):
                    arguments = (identity(), function, [arguments for _, arguments in some], common)
                    waiting.append(self._submit(_Batch([name for name, _ in some], arguments)))
                if not waiting:
                    return
                one = waiting.popleft()
                results, seconds = self._result(one)
                size = max(1, min(2 * size, int(_SECONDS * len(results) / seconds), _MOST))
                yield from zip(one.names, results, strict=True)
        finally:
            for left in waiting:
                with suppress(Exception):
                    left.future.cancel()

    def _submit(self, batch: _Batch) -> _Batch:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of megabytes in a task: they are the photos
            batch.future = self._client.submit(_call, *batch.arguments, pure=False, retries=1)
        return batch

    def _result(self, batch: _Batch) -> tuple[list, float]:
        from distributed import CancelledError, KilledWorker

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._finished(batch.future)
            except (CancelledError, KilledWorker, OSError, TimeoutError) as error:
                log.warning("cluster: a batch was lost (%s), attempt %d", str(error).splitlines()[0], attempt)
                lost = error
            except ModuleNotFoundError as error:
                raise TpsfmError(f"a worker of {self.address} lacks a module: {error}; install tpsfm there") from error
            if self._client.status != "running":
                self._client = self._connect()
            self._submit(batch)
        raise TpsfmError(
            f"the cluster {self.address} lost the same work {_ATTEMPTS} times ({lost}); run again"
        ) from lost

    def _finished(self, future: Any) -> tuple[list, float]:
        """The result of a batch, waited for as long as there are workers."""
        while True:
            try:
                return future.result(timeout=_PATIENCE)
            except asyncio.TimeoutError as error:
                if future.status != "pending":
                    raise
                if not self.threads:
                    text = f"no worker of the cluster {self.address} is left; run again, what is done stays"
                    raise TpsfmError(text) from error

    def _connect(self) -> Any:
        """A client, once there are workers; those that were started here may come later."""
        from distributed import Client

        end = time.monotonic() + _PATIENCE
        while True:
            try:
                client = Client(self.address, timeout=5, set_as_default=False)
                break
            except (OSError, TimeoutError, ValueError) as error:
                if isinstance(error, ValueError) or time.monotonic() > end or not hasattr(self, "_client"):
                    raise TpsfmError(f"no Dask scheduler answers at {self.address}; is it running?") from error
        try:
            if self._local is None:
                client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            client.close()
            raise TpsfmError(f"the scheduler {self.address} has no workers; start some: dask worker ...") from error
        return client


_open: dict[tuple[str | None, int], Cluster] = {}


def connect(address: str | None, workers: int, progress: Progress) -> Cluster | None:
    """The cluster that the options name, the same for the same options until `disconnect`; None where they name none.

    Raises:
        TpsfmError: they name two, or as `Cluster`.
    """
    check(address, workers)
    if not address and not workers:
        return None
    if (address, workers) not in _open:
        cluster = _open[address, workers] = Cluster(address, workers)
        progress.say(
            f"cluster             {workers or cluster.threads} threads at {cluster.address}, see {cluster.dashboard}"
        )
    return _open[address, workers]


def check(address: str | None, workers: int) -> None:
    """Whatever of these options can be told before any work.

    Raises:
        TpsfmError: they name two clusters, or Dask isn't installed.
    """
    if address and workers:
        raise TpsfmError("--cluster has workers of its own; leave out --workers")
    if (address or workers) and find_spec("distributed") is None:
        raise TpsfmError("--cluster and --workers need Dask; pip install 'tpsfm[cluster]'")


def disconnect() -> None:
    """Close what `connect` opened."""
    while _open:
        _open.popitem()[1].close()


@lru_cache(1)
def identity() -> str:
    """Digest of what results depend on: the packages' versions, and tpsfm's own files with the shipped weights."""
    digest = hashlib.blake2b(digest_size=16)
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            digest.update(f"{package} {version(package)}\n".encode())
    for package in ("tpsfm", "tpr"):
        spec = find_spec(package)
        root = Path((spec.origin if spec else None) or __file__).parent
        for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".safetensors")):
            digest.update(f"{package} {path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _call(
    expected: str, function: Callable[..., list[Result]], arguments: list[tuple], common: tuple
) -> tuple[list[Result], float]:
    """On a worker: `function`, where tpsfm is the same as where the result goes, and its seconds."""
    if identity() != expected:
        from distributed import get_worker

        raise TpsfmError(
            f"the worker {get_worker().address} has another version of tpsfm, its weights, pycolmap, torch, numpy or"
            " OpenCV than this machine; install the same on both"
        )
    _keep_memory()
    start = time.perf_counter()
    results = function(arguments, *common)
    return results, max(time.perf_counter() - start, 1e-6)


@lru_cache(1)
def _keep_memory() -> None:
    """Let glibc keep freed memory as it does by default: Dask's nanny has it return arrays at once, and matching then
    spends half of its time on pages that it has just given back."""
    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def _start(workers: int) -> Any:
    """A scheduler in this process, and workers in processes that need nothing of this one's main module."""
    import dask.config
    from distributed import Scheduler, SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    options = {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.ERROR, "preload": [_AT_FIRST]}
    worker = {"cls": SubprocessWorker, "options": {"worker_class": "distributed.Nanny", "worker_kwargs": options}}
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    if sys.platform == "win32":
        raise TpsfmError("--workers starts none on Windows; run 'dask scheduler' and 'dask worker', give --cluster")
    for name, value in _QUIET.items():  # a worker's process reads them from the environment
        os.environ.setdefault("DASK_" + name.replace(".", "__").replace("-", "_").upper(), value)
    with dask.config.set(_QUIET):
        return SpecCluster({number: worker for number in range(workers)}, scheduler, silence_logs=logging.ERROR)

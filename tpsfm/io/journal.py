"""Results of jobs in a file as soon as they are there: what a stage that was killed goes on from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedRandom, BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.parallel import in_parallel

Name = TypeVar("Name")
Arrays = Sequence[np.ndarray]

_LENGTH = 8  # bytes before each record


class Journal:
    """Keeps what the jobs of a stage gave, and gives that again when they are asked for by another process.

    Args:
        folder: of the files, one for each function; whoever is done removes it.
        key: of all that the results depend on; those of another key are of no use.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._key = folder, key.encode()

    def in_parallel(
        self, function: Callable[..., Arrays], jobs: Iterable[tuple[Name, tuple[Any, ...]]], most: int | None = None
    ) -> Iterator[tuple[Name, Arrays]]:
        """As `tpsfm.parallel.in_parallel`, of a function that gives arrays; the jobs are the same each time.

        Raises:
            TpsfmError: a result can't be written.
        """
        jobs = iter(jobs)
        with self._open(function.__name__.strip("_")) as file:
            kept = self._read(file)
            yield from ((name, arrays) for (name, _), arrays in zip(islice(jobs, len(kept)), kept, strict=True))
            for name, arrays in in_parallel(function, jobs, most=most):
                self._write(file, arrays)
                yield name, arrays

    def _open(self, name: str) -> BufferedRandom:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return (self.folder / name).open("a+b")
        except OSError as error:
            raise self._failed(error) from error

    def _read(self, file: BufferedRandom) -> list[Arrays]:
        """The whole records of a file of this key; whatever else it holds is cut off."""
        file.seek(0)
        if file.read(len(self._key)) != self._key:
            file.truncate(0)
            file.write(self._key)
        kept: list[Arrays] = []
        end = file.tell()
        while len(content := file.read(length := int.from_bytes(file.read(_LENGTH), "little"))) == length > 0:
            with np.load(BytesIO(content)) as arrays:
                kept.append([arrays[name] for name in arrays.files])
            end = file.tell()
        file.truncate(end)
        return kept

    def _write(self, file: BufferedRandom, arrays: Arrays) -> None:
        content = BytesIO()
        np.savez(content, *arrays)
        try:
            file.write(len(content.getvalue()).to_bytes(_LENGTH, "little") + content.getvalue())
            file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> TpsfmError:
        return TpsfmError(f"cannot write to {self.folder}: {error.strerror or error}")

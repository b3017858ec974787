"""What the stages of a reconstruction have in common: options, keys, the clock, and their record in the manifest."""

from __future__ import annotations

import logging
import operator
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from tpsfm.cluster import Cluster, connect
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.pairs.selection import Pair, read_pairs
from tpsfm.photos import Photo, kept_photos, read_photo
from tpsfm.progress import Progress

log = logging.getLogger("tpsfm")

_LIMITS = (("least", "at least", operator.ge), ("most", "at most", operator.le), ("above", "above", operator.gt))

MANY = 200  # photos from which bundle adjustment takes threads
NOT_KEPT = ("cluster", "workers")  # options of a run that say nothing of its result, nor of later runs

_TYPES: dict[str, tuple[type, ...]] = {  # of options, by their annotation
    "None": (type(None),),
    "bool": (bool,),
    "int": (Integral,),
    "float": (Real,),
    "str": (str, Path),
    "Path": (str, Path),
}

AnyStage = TypeVar("AnyStage", bound="Stage")

Photos = Callable[[], Mapping[str, Photo]]
"""Reads the records of the photos, by name; they are only read where they are asked for."""


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    path: bool = False,
) -> Any:
    """A stage's option: a dataclass field from which the command line is made, too.

    Args:
        default: its value where it isn't given.
        help: one line for the user.
        choices: the values it may have.
        least, most, above: the range of a number, the first two included; floats for one that needs not be whole.
        path: whether it is the path of a file or folder.
    """
    limits = {"choices": choices, "least": least, "most": most, "above": above}
    return field(default=default, metadata={"help": help, "path": path, **limits})


@dataclass(frozen=True)
class Done:
    """What a run of a stage did.

    Attributes:
        key: digest of all that the stage's result depends on.
        new, kept: how many of its items (photos, pairs) were made now, and how many were there already.
        counts: figures for the manifest.
    """

    key: str
    new: int
    kept: int = 0
    counts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A step of a reconstruction on a workspace; it does only what its inputs and options changed.

    Each stage takes what it needs from the workspace, where the stages before it left it.

    Attributes:
        name: of its record in the manifest.
        title: for the user.

    Raises:
        TpsfmError: an option is out of its range.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    device: str = option("auto", "auto, cpu or cuda.")
    seed: int = option(0, "Same seed, same map.", least=0)
    threads: int = option(-1, "-1: all cores.")
    deterministic: bool = option(
        False, "Same bytes from the same photos however many; else the last bits may differ from 200 photos on."
    )
    cluster: str | None = option(None, "Dask scheduler whose workers extract, match and verify, tcp://host:8786.")
    workers: int = option(0, "Start so many worker processes here, which do.", least=0)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, limits = getattr(self, one.name), one.metadata
            if limits and not any(_is_of(value, kind) for kind in str(one.type).split(" | ")):
                raise TpsfmError(f"{one.name} must be {one.type}, not {value!r:.100}")
            if value is None:
                continue
            if limits.get("path"):
                object.__setattr__(self, one.name, Path(value))
            if limits.get("choices") and value not in limits["choices"]:
                raise TpsfmError(f"{one.name} can't be '{value}'; there are: {', '.join(limits['choices'])}")
            for limit, words, holds in _LIMITS:
                if limits.get(limit) is not None and not holds(value, limits[limit]):
                    raise TpsfmError(f"{one.name} must be {words} {limits[limit]}, not {value}")

    @classmethod
    def of(cls: type[AnyStage], options: Mapping[str, Any]) -> AnyStage:
        """The stage with those of the options that are its own."""
        own = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in options.items() if name in own})

    @classmethod
    def recorded(cls: type[AnyStage], workspace: Workspace) -> AnyStage:
        """The stage with the options in a workspace's manifest."""
        return cls.of(workspace.manifest["options"])

    @property
    def options(self) -> dict[str, Any]:
        """The options as JSON; paths are absolute, for later runs from other folders."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: os.path.abspath(value) if isinstance(value, Path) else value for name, value in values.items()}

    def problems(self, photos: Photos) -> Iterator[str]:
        """What can't work with these options and photos, a line each: asked before any work."""
        return iter(())

    def remarks(self, photos: Photos) -> Iterator[str]:
        """What the user should know before the work, a line each: options that have no effect with the others."""
        return iter(())

    def is_given(self, name: str) -> bool:
        """Whether an option has another value than its default."""
        return getattr(self, name) != next(one.default for one in fields(self) if one.name == name)

    def run(self, workspace: Workspace, progress: Progress | None = None) -> None:
        """Do what isn't done yet on a locked workspace, and record it in the manifest.

        Raises:
            TpsfmError: an earlier stage is missing, or as the stage's own documentation says.
        """
        if self.threads > 0:
            import torch

            torch.set_num_threads(self.threads)
        start, cpu = time.perf_counter(), time.process_time()
        done = self._work(workspace, progress or Progress())
        if done is not None:
            log.info("%s: %d new, %d kept", self.title, done.new, done.kept)
        if done is not None and (done.new or not workspace.is_done(self.name, done.key)):
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            workspace.finish(self.name, done.key, seconds, cpu, **done.counts)
        else:  # the time that it once took stays
            workspace.save()

    def adjusting_threads(self, photos: int) -> int:
        """Threads of a bundle adjustment of so many photos: more than one change its sums from run to run."""
        if not self.may_differ(photos):
            return 1
        return self.threads if self.threads > 0 else os.cpu_count() or 1

    def may_differ(self, photos: int) -> bool:
        """Whether the last bits of a map of so many photos may differ from run to run."""
        return not self.deterministic and photos >= MANY

    def _cluster(self, progress: Progress) -> Cluster | None:
        """The workers that the options name, None where they name none."""
        return connect(self.cluster, self.workers, progress)

    @abstractmethod
    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        """Do what isn't done yet; None where there is nothing to record."""

    def _is_done(self, workspace: Workspace, key: str, result: Path) -> bool:
        """Whether the stage finished with that key and its result is there; if not, it counts as begun."""
        if workspace.is_done(self.name, key) and result.exists():
            return True
        workspace.start(self.name)
        return False


def problem_of(check: Callable[..., object], *arguments: object) -> Iterator[str]:
    """The line of the TpsfmError that a call raises, if it does."""
    try:
        check(*arguments)
    except TpsfmError as error:
        yield str(error)


def key_of(workspace: Workspace, stage: type[Stage], command: str) -> str:
    """The key of a stage that is done.

    Raises:
        TpsfmError: it isn't; `command` makes it.
    """
    record = workspace.manifest["stages"].get(stage.name)
    if record is None:
        raise TpsfmError(f"{workspace.root}: no {stage.title} yet; run '{command}' first")
    return record["key"]


def _is_of(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))


def photo_keys(workspace: Workspace) -> dict[str, str]:
    """The keys of the photos' features by name.

    Raises:
        TpsfmError: there are none yet.
    """
    photos = workspace.manifest.get("photos")
    if not photos:
        raise TpsfmError(f"{workspace.root}: no features are extracted yet; run 'tpsfm extract' first")
    return photos


def photo_records(workspace: Workspace, names: Iterable[str]) -> dict[str, Photo]:
    """The records of photos by name: those that the extraction kept, others read again."""
    images = workspace.images
    kept = kept_photos(workspace.photos, images)
    return {name: kept.get(name) or read_photo(images / name, name) for name in names}


def chosen_pairs(workspace: Workspace) -> list[Pair]:
    """The pairs of photos to match.

    Raises:
        TpsfmError: there are none yet.
    """
    if not workspace.pairs.exists():
        raise TpsfmError(f"{workspace.root}: no pairs are chosen yet; run 'tpsfm pairs' first")
    return read_pairs(workspace.pairs, photo_keys(workspace))

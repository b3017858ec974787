"""Photos in, map out: the stages of a reconstruction, in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from tpsfm.cluster import check, disconnect
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.photos import Photo, PhotoCatalog, list_images
from tpsfm.photos.fetching import local_folder
from tpsfm.photos.video import Video
from tpsfm.progress import Progress
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.frames import FOLDER as FRAMES
from tpsfm.reconstruction.frames import Frames
from tpsfm.reconstruction.georeference import Georeference
from tpsfm.reconstruction.lookalikes import Lookalikes
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.matching import Matching
from tpsfm.reconstruction.pairs import Pairing
from tpsfm.reconstruction.stage import NOT_KEPT, Stage, photo_keys, photo_records, problem_of
from tpsfm.reconstruction.turns import Turns
from tpsfm.reconstruction.verification import Verification

__all__ = ["Stage", "Stages", "reconstruct"]

log = logging.getLogger("tpsfm")


def reconstruct(images: str | Path, out: str | Path, *, progress: Progress | None = None, **options: Any) -> Workspace:
    """Reconstruct a 3D map from a folder of photos or a video; run again, it goes on where it stopped.

    Args:
        images: folder of photos, its URL ("s3://bucket/photos", see `tpsfm.photos.fetching`), or a video's file.
        out: the workspace, a new folder or one of an earlier run.
        progress: receives the progress; None shows none.
        **options: those of the stages, by name: features="sift", pairs="sequential", threads=1 ...; each stage's class
            declares its own.

    Returns:
        The finished workspace: `sparse` holds the map, `points` its points, `report` the page.

    Raises:
        TpsfmError: a mistake that the user can mend, told in one line.
    """
    from tpsfm.reconstruction.report import write_results

    stages = Stages.of(**options).for_images(Path(images))
    workspace = Workspace.open(Path(out), create=True)
    try:
        with workspace.locked():
            images = local_folder(images, workspace.root, progress or Progress())
            stages.check(workspace, Path(images))
            stages.record(workspace, Path(images))
            stages.frames.run(workspace, progress)
            if Path(images).is_file():
                stages.check(workspace, workspace.images)
            for turns in (stages.turns, stages.turns.of_all()):
                turns.run(workspace, progress)
                stages.features.run(workspace, progress)
                stages.pairs.run(workspace, progress)
                stages.matching.run(workspace, progress)
                stages.verification.run(workspace, progress)
                if not stages.turns.may_have_missed(workspace, progress):
                    break
            stages.mapping.run(workspace, progress)
            stages.alignment.run(workspace, progress)
            stages.lookalikes.run(workspace, progress)
            stages.georeference.run(workspace, progress)
            write_results(workspace)
    finally:
        disconnect()
    return workspace


@dataclass(frozen=True)
class Stages:
    """The stages of a reconstruction, each with its options; make them with `Stages.of`."""

    frames: Frames
    turns: Turns
    features: Extraction
    pairs: Pairing
    matching: Matching
    verification: Verification
    mapping: Mapping
    alignment: Alignment
    lookalikes: Lookalikes
    georeference: Georeference

    @staticmethod
    def types() -> tuple[type[Stage], ...]:
        """Their classes, in the order in which they run."""
        return Frames, Turns, Extraction, Pairing, Matching, Verification, Mapping, Alignment, Lookalikes, Georeference

    @classmethod
    def of(cls, **options: Any) -> Stages:
        """The stages with these options, by name, and the defaults for all others.

        Raises:
            TpsfmError: no stage has such an option, or its value is out of its range.
        """
        known = {one.name for stage in cls.types() for one in fields(stage)}
        problems = [
            f"no option '{name}'; there are: {', '.join(sorted(known))}" for name in sorted(options.keys() - known)
        ]
        for stage in cls.types():
            problems += problem_of(stage.of, options)
        _tell(problems)
        return cls(*(stage.of(options) for stage in cls.types()))  # type: ignore[arg-type]

    @classmethod
    def recorded(cls, workspace: Workspace, **changes: Any) -> Stages:
        """The stages with the options of a workspace's last run, but for some changes."""
        if "pairs" in changes:
            changes.setdefault("pairs_file", None)
        return cls.of(**{**workspace.manifest["options"], **changes})

    def __iter__(self) -> Iterator[Stage]:
        """In the order in which they run."""
        return (getattr(self, one.name) for one in fields(self))

    @property
    def options(self) -> dict[str, Any]:
        """All options by name, as JSON."""
        return {name: value for stage in self for name, value in stage.options.items()}

    def check(self, workspace: Workspace, images: Path | None = None, names: Iterable[str] = ()) -> None:
        """Tell what can't work, all at once and before any work; the log "tpsfm" tells which options have no effect.

        Args:
            images: folder of the photos, or a video, of whose frames nothing is asked; if left out, the photos are
                those whose features are there.
            names: of the stages that are to run; all of them if left out.

        Raises:
            TpsfmError: something can't work; of several things each has a line.
        """

        @cache
        def photos() -> dict[str, Photo]:
            if images is not None and images.is_file():
                raise _NoFrames
            if images is None:
                return photo_records(workspace, photo_keys(workspace))
            found = {}
            with PhotoCatalog(images, workspace.photos, self.features.masks, self.features.list) as catalog:
                for name in catalog.names:
                    with suppress(TpsfmError):  # the extraction names those that can't be read
                        found[name] = catalog[name]
            return found

        stages = [getattr(self, name) for name in names] or list(self)
        problems = list(problem_of(_check_images, images))
        if self.mapping in stages and self.mapping.poses is not None and self.verification.cameras is not None:
            problems.append("--poses brings cameras of its own; leave out --cameras")
        problems += problem_of(check, self.features.cluster, self.features.workers)
        for stage in stages:
            try:
                problems += stage.problems(photos)
            except _NoFrames:
                continue
            except TpsfmError as error:  # there are no photos
                problems += [str(error)] if str(error) not in problems else []
        _tell(problems)
        if images is not None and images.is_file():
            return
        for remark in (remark for stage in stages for remark in stage.remarks(photos)):
            log.warning("%s", remark)

    def for_images(self, images: Path | None) -> Stages:
        """The stages with a video's defaults, where `images` is one: one camera, sequential pairs, loop closure."""
        if images is None or not images.is_file():
            return self
        pairs, verification = self.pairs, self.verification
        if pairs.pairs == "auto" and pairs.pairs_file is None:
            loops = True if pairs.loop_closure is None else pairs.loop_closure
            pairs = replace(pairs, pairs="sequential", loop_closure=loops)
        if verification.camera_mode == "auto" and verification.cameras is None:
            verification = replace(verification, camera_mode="single")
        return replace(self, pairs=pairs, verification=verification)

    def record(self, workspace: Workspace, images: Path) -> None:
        """Make these the options of a workspace, and this folder or video its photos, before a stage runs."""
        workspace.manifest["options"] = {name: value for name, value in self.options.items() if name not in NOT_KEPT}
        if images.is_file():
            video = workspace.manifest.get("video", {})
            workspace.manifest["video"] = video | {"path": str(images.resolve())}
            workspace.images = workspace.root / FRAMES
        elif "video" not in workspace.manifest or images.resolve() != workspace.images.resolve():
            workspace.manifest.pop("video", None)
            workspace.images = images


class _NoFrames(Exception):
    """A video's frames are not written yet."""


def _check_images(images: Path | None) -> None:
    """Raise TpsfmError where there is no folder of photos or video."""
    if images is not None and images.is_file():
        Video(images).close()
    elif images is not None and not images.is_dir():
        list_images(images)


def _tell(problems: Sequence[str]) -> None:
    """Raise an error where there are problems."""
    if len(problems) > 1:
        raise TpsfmError("\n".join([f"{len(problems)} things can't work:", *(f"  {problem}" for problem in problems)]))
    if problems:
        raise TpsfmError(problems[0])

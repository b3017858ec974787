"""Photos in, map out: the stages of a reconstruction, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tpsfm.cluster import disconnect
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.progress import Progress
from tpsfm.reconstruction.alignment import Alignment
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.georeference import Georeference
from tpsfm.reconstruction.mapping import Mapping
from tpsfm.reconstruction.matching import Matching
from tpsfm.reconstruction.pairs import Pairing
from tpsfm.reconstruction.stage import NOT_KEPT, Stage
from tpsfm.reconstruction.turns import Turns
from tpsfm.reconstruction.verification import Verification

__all__ = ["Stage", "Stages", "reconstruct"]


def reconstruct(images: str | Path, out: str | Path, *, progress: Progress | None = None, **options: Any) -> Workspace:
    """Reconstruct a 3D map from a folder of photos; run again, it goes on where it stopped.

    Args:
        images: folder of photos.
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

    stages = Stages.of(**options)
    workspace = Workspace.open(Path(out), create=True)
    try:
        with workspace.locked():
            stages.record(workspace, Path(images))
            for turns in (stages.turns, stages.turns.of_all()):
                turns.run(workspace, progress)
                stages.features.run(workspace, progress)
                stages.pairs.run(workspace, progress)
                stages.matching.run(workspace, progress)
                stages.verification.run(workspace, progress)
                if not stages.turns.may_have_missed(workspace):
                    break
            stages.mapping.run(workspace, progress)
            stages.alignment.run(workspace, progress)
            stages.georeference.run(workspace, progress)
            write_results(workspace)
    finally:
        disconnect()
    return workspace


@dataclass(frozen=True)
class Stages:
    """The stages of a reconstruction, each with its options; make them with `Stages.of`."""

    turns: Turns
    features: Extraction
    pairs: Pairing
    matching: Matching
    verification: Verification
    mapping: Mapping
    alignment: Alignment
    georeference: Georeference

    @staticmethod
    def types() -> tuple[type[Stage], ...]:
        """Their classes, in the order in which they run."""
        return Turns, Extraction, Pairing, Matching, Verification, Mapping, Alignment, Georeference

    @classmethod
    def of(cls, **options: Any) -> Stages:
        """The stages with these options, by name, and the defaults for all others.

        Raises:
            TpsfmError: no stage has such an option, or its value is out of its range.
        """
        stages = cls(
            Turns.of(options),
            Extraction.of(options),
            Pairing.of(options),
            Matching.of(options),
            Verification.of(options),
            Mapping.of(options),
            Alignment.of(options),
            Georeference.of(options),
        )
        unknown = sorted(options.keys() - stages.options.keys())
        if unknown:
            raise TpsfmError(f"no option '{unknown[0]}'; there are: {', '.join(sorted(stages.options))}")
        return stages

    @classmethod
    def recorded(cls, workspace: Workspace, **changes: Any) -> Stages:
        """The stages with the options of a workspace's last run, but for some changes."""
        return cls.of(**{**workspace.manifest["options"], **changes})

    def __iter__(self) -> Iterator[Stage]:
        """In the order in which they run."""
        return (getattr(self, one.name) for one in fields(self))

    @property
    def options(self) -> dict[str, Any]:
        """All options by name, as JSON."""
        return {name: value for stage in self for name, value in stage.options.items()}

    def record(self, workspace: Workspace, images: Path) -> None:
        """Make these the options of a workspace, and this folder that of its photos, before a stage runs."""
        kept = {name: value for name, value in self.options.items() if name not in NOT_KEPT}
        workspace.manifest |= {"options": kept, "images": str(images.resolve())}

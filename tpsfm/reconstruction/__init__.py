"""Photos in, map out: all stages in a row, and what is told of the result."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.progress import Quiet
from tpsfm.reconstruction import report as results
from tpsfm.reconstruction import stages

if TYPE_CHECKING:
    from tpsfm.features import Extractor
    from tpsfm.matching import Matcher

_PATHS = ("weights", "masks", "pairs_file")  # among the options; kept whole, for later runs from other folders


@dataclass(frozen=True)
class Options:
    """What a reconstruction may be told; each stage's own function says more.

    Attributes:
        features: name of the extractor in the registry.
        weights: its weights file, None for the shipped one.
        max_keypoints, max_size, device: as the extractor takes them.
        turned: the photos are turned against each other: find out how, and extract features of photos turned alike.
        masks: folder of masks (`image.jpg.png`, black where no keypoint may lie), or None.
        pairs: how pairs are chosen, one of `stages.PAIRINGS`.
        neighbours, overlap, quadratic, pairs_file: as in `stages.make_pairs`.
        min_similarity, ratio: as in `matching.MatchOptions`; a ratio of None is the extractor's own, 1 none at all.
        camera_model, camera_mode: as in `stages.verify`.
        mapper: "incremental" or "global".
        seed: of every random choice.
        threads: -1 for all cores.
    """

    features: str = "tpr"
    weights: Path | None = None
    max_keypoints: int = 8192
    max_size: int = 1600
    device: str = "auto"
    turned: bool = False
    masks: Path | None = None
    pairs: str = "auto"
    neighbours: int = 20
    overlap: int = 10
    quadratic: bool = True
    pairs_file: Path | None = None
    min_similarity: float | None = None
    ratio: float | None = None
    camera_model: str = "SIMPLE_RADIAL"
    camera_mode: str = "auto"
    mapper: str = "incremental"
    seed: int = 0
    threads: int = -1

    def extractor(self) -> Extractor:
        """The extractor that these options name."""
        from tpsfm.features import extractor_class

        own = {"weights": self.weights} if self.weights is not None else {}
        limits = {"max_keypoints": self.max_keypoints, "max_size": self.max_size}
        extractor = extractor_class(self.features)
        try:
            return extractor(device=self.device, **limits, **extractor.for_maps, **own)
        except TypeError as error:
            raise TpsfmError(f"the features '{self.features}' don't take these options: {error}") from error

    def matcher(self, device: str | None = None) -> Matcher:
        """The matcher that these options name, on `device` or that of the options."""
        from tpsfm.features import extractor_class
        from tpsfm.matching import matcher_class

        thresholds = {"min_similarity": self.min_similarity, "ratio": self.ratio}
        return matcher_class().create(extractor_class(self.features), device or self.device, **thresholds)

    def match_ratio(self) -> float | None:
        """Lowe's ratio of the matches: the one given, else the features' own; None tests nothing."""
        from tpsfm.features import extractor_class

        ratio = extractor_class(self.features).ratio if self.ratio is None else self.ratio
        return None if ratio == 1 else ratio


def reconstruct(images: str | Path, out: str | Path, *, progress: Quiet | None = None, **options) -> Workspace:
    """Reconstruct a 3D map from a folder of photos; run again, it goes on where it stopped.

    Args:
        images: folder of photos.
        out: the workspace, a new folder or one of an earlier run.
        progress: who is told of the progress; None is nobody.
        **options: as in `Options`.

    Returns:
        The finished workspace: `sparse` holds the map, `points` its points, `report` the page.

    Raises:
        TpsfmError: a mistake that the user can mend, told in one line.
    """
    chosen = Options(**options)
    workspace = Workspace.open(Path(out), create=True)
    with workspace.locked():
        for stage in STAGES:
            run_stage(stage, workspace, chosen, Path(images), progress or Quiet())
    return workspace


def run_stage(stage: str, workspace: Workspace, options: Options, images: Path, progress: Quiet) -> None:
    """Run one of `STAGES` on a locked workspace."""
    workspace.manifest["options"] = {
        key: os.path.abspath(value) if value is not None and key in _PATHS else value
        for key, value in asdict(options).items()
    }
    if options.threads > 0:
        import torch

        torch.set_num_threads(options.threads)
    STAGES[stage](workspace, options, images, progress)


def _extract(workspace: Workspace, options: Options, images: Path, progress: Quiet) -> None:
    masks = None if options.masks is None else Path(options.masks)
    extractor = options.extractor()
    if options.turned:
        stages.find_turns(workspace, images, extractor, progress)
    turns = workspace.manifest["turns"] if options.turned else {}
    stages.extract(workspace, images, extractor, masks, turns, progress)


def _pairs(workspace: Workspace, options: Options, images: Path, progress: Quiet) -> None:
    stages.make_pairs(
        workspace,
        options.pairs,
        options.neighbours,
        options.overlap,
        options.quadratic,
        None if options.pairs_file is None else Path(options.pairs_file),
        options.extractor,
        options.seed,
        progress,
    )


def _match(workspace: Workspace, options: Options, images: Path, progress: Quiet) -> None:
    stages.match(workspace, options.matcher(), progress)


def _map(workspace: Workspace, options: Options, images: Path, progress: Quiet) -> None:
    stages.verify(workspace, options.camera_model, options.camera_mode, options.seed, options.threads, progress)
    stages.build_map(workspace, options.mapper, options.seed, options.threads, progress)
    results.finish(workspace)


STAGES = {"extract": _extract, "pairs": _pairs, "match": _match, "map": _map}

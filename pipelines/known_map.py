"""The map of photos whose cameras and poses are known: only its points are made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tpsfm import colmap
from tpsfm.geometry.model import Model
from tpsfm.io.store import FeatureStore, MatchStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.pairs import selection as pairs
from tpsfm.progress import Terminal
from tpsfm.reconstruction import Options, run_stage
from tpsfm.reconstruction.report import finish


def map_known(
    root: Path,
    images: Path,
    known: Model,
    paired: Callable[[list[str]], Iterable[tuple[str, str]]],
    options: Options,
) -> Workspace:
    """Extract, match and triangulate; what is done already stays.

    Args:
        root: folder of the workspace.
        images: folder that the photos' names are relative to; it may hold others.
        known: their cameras and poses.
        paired: the pairs to match, of the photos that could be read.
        options: of the features and matches.
    """
    workspace = Workspace.open(root, create=True)
    photos = root / "images"
    chosen, progress = root / "chosen.txt", Terminal()
    with workspace.locked():
        shutil.rmtree(photos, ignore_errors=True)
        for name in known.images:
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / name).symlink_to((images / name).resolve())
        options = replace(options, pairs="file", pairs_file=chosen)
        run_stage("extract", workspace, options, photos, progress)
        names = workspace.manifest["photos"]
        pairs.write_pairs(chosen, paired(names))
        run_stage("pairs", workspace, options, photos, progress)
        run_stage("match", workspace, options, photos, progress)
        known = replace(known, images={name: known.images[name] for name in names})
        poses = {
            name: [pose.rotation.tolist(), pose.translation.tolist(), known.cameras[pose.camera_id].params]
            for name, pose in known.images.items()
        }
        key = digest([workspace.manifest["stages"]["match"]["key"], poses, options.seed])
        if workspace.is_done("map", key) and (workspace.sparse / "images.bin").exists():
            return workspace
        workspace.start("map")
        start = time.perf_counter()
        with FeatureStore(workspace.features) as features, MatchStore(workspace.matches) as matches:
            colmap.triangulate(
                known,
                workspace.database,
                photos,
                workspace.sparse,
                features.read_keypoints,
                ((a, b, matches.read(a, b)[0]) for a, b in pairs.read_pairs(workspace.pairs, names)),
                seed=options.seed,
                threads=options.threads,
            )
        workspace.finish("map", key, time.perf_counter() - start, models=1)
        finish(workspace)
    return workspace

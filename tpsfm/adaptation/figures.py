"""What weights give on the photos of a map that were held out."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tpr.data import Data
from tpr.validation import validate
from tpr.weights import load_weights

from tpsfm.adaptation.scene import Scene
from tpsfm.colmap import project
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model
from tpsfm.io.workspace import Workspace
from tpsfm.localization import Map
from tpsfm.progress import Progress
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.mapping import triangulate
from tpsfm.reconstruction.stage import chosen_pairs

NEIGHBOURS = 6  # photos of the map that a held-out photo is localized with

log = logging.getLogger("tpsfm")


@dataclass(frozen=True)
class Figures:
    """What weights give on held-out photos of a map.

    Attributes:
        registered: how many have a pose in a map of the others.
        points: of that map.
        matches, inliers: of all held-out photos with it.
        error: root mean square reprojection error of the inliers, pixels.
        accuracy: `tpr.validation.validate`'s on warps of photos that were not trained on.
    """

    registered: int
    points: int
    matches: int
    inliers: int
    error: float
    accuracy: float


def measure(scene: Scene, stages: Stages, weights: Path, data: Data, progress: Progress, label: str) -> Figures:
    """What weights give: the held-out photos are localized in a map of their neighbours at their known poses."""
    network = load_weights(weights)[0].to(data.pairs.first.device)
    accuracy = validate(network, data.pairs)["accuracy"]
    neighbours = {name: scene.neighbours(name, NEIGHBOURS) for name in scene.held_out}
    names = sorted({name for some in neighbours.values() for name in some})
    with tempfile.TemporaryDirectory(dir=scene.workspace.root) as folder:
        temporary = _map(scene, stages, weights, names, Path(folder), progress)
        if temporary is None:
            return Figures(0, 0, 0, 0, float("nan"), accuracy)
        map_ = Map(temporary.root, device=stages.features.device)
        registered = matches = inliers = 0
        errors = []
        with progress.bar(label, len(scene.held_out)) as update:
            for done, (name, others) in enumerate(neighbours.items(), 1):
                camera = scene.model.cameras[scene.model.images[name].camera_id]
                photo = replace(scene.records[name], turn=0)
                result, features = map_.localize_with_features(photo, camera, retrieved=others)
                update(done, len(scene.held_out))
                if result.pose is None or features is None:
                    continue
                found = features.keypoints[result.matches[:, 0]]
                expected = project(camera, result.pose, map_.model.points[result.matches[:, 1]])
                errors.append(((found - expected) ** 2).sum(1))
                registered, inliers = registered + 1, inliers + result.inliers
                matches += round(result.inliers / result.ratio)
        points = len(map_.model.points)
    error = float(np.sqrt(np.concatenate(errors).mean())) if errors else float("nan")
    return Figures(registered, points, matches, inliers, error, accuracy)


def _map(
    scene: Scene, stages: Stages, weights: Path, names: list[str], folder: Path, progress: Progress
) -> Workspace | None:
    """A map of some of the photos at their known poses; None where no point comes out."""
    listed = folder / "photos.txt"
    listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    stages = Stages.of(**{**stages.options, "weights": weights, "list": listed, "cluster": None, "workers": 0})
    temporary = Workspace.open(folder / "map", create=True)
    temporary.manifest["turns"] = scene.workspace.manifest.get("turns", {})
    stages.record(temporary, scene.workspace.images)
    for stage in (stages.features, stages.pairs, stages.matching):
        stage.run(temporary, progress)
    known = Model.of_cameras(scene.model.cameras, {name: scene.model.images[name] for name in names})
    pairs = [pair for pair in chosen_pairs(temporary) if set(pair) <= known.images.keys()]
    try:
        triangulate(temporary, known, temporary.sparse, pairs, stages.mapping.seed, stages.mapping.threads)
    except TpsfmError as error:
        log.info("%s", error)
        return None
    return temporary

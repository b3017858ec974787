"""Features adapted to a map: its tracks are views that belong together, with real changes of viewpoint and light."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.sparse import csr_matrix
from tpr.config import ConfigError, NetworkConfig, load_config
from tpr.data import Data
from tpr.engine import Trainer, TrainingStopped
from tpr.landmarks import Matched
from tpr.networks import Network
from tpr.photos import Photos, find_photos, read_reduced, split
from tpr.randomness import hashed
from tpr.validation import validate, validation_pairs
from tpr.weights import WeightsError, load_weights, read_weights, shipped_weights

from tpsfm.colmap import project, read_observations
from tpsfm.device import choose_device, computes_bfloat16
from tpsfm.errors import TpsfmError
from tpsfm.features.upright import rotation
from tpsfm.geometry import Model, rescale_points
from tpsfm.io.workspace import Workspace
from tpsfm.localization import Map
from tpsfm.photos import Photo, decoded_keypoints, unchanged_photos, upright
from tpsfm.progress import Progress
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.mapping import triangulate
from tpsfm.reconstruction.report import map_digest, open_map
from tpsfm.reconstruction.stage import chosen_pairs

log = logging.getLogger("tpsfm")

FILE = "adapted.safetensors"
MIN_PHOTOS = 6  # of a map
MAX_PHOTOS = 200  # that are trained on, of larger maps; a photo takes 3 MB
SIDE = 1024  # pixels of their longer sides
HELD_OUT, MOST_HELD_OUT = 0.2, 10  # the share of the photos, and how many at most
MIN_SHARED = 16  # landmarks of a pair of photos
MAX_PAIRS = 2000
NEIGHBOURS = 6  # photos of the map that a held-out photo is localized with
FORGOTTEN = 0.02  # of accuracy on other photos
INVERSE = {1: 1, 3: 3, 6: 8, 8: 6}  # of an EXIF orientation


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


@dataclass(frozen=True)
class Adaptation:
    """What was adapted, and what it gained.

    Attributes:
        weights: the file.
        photos, pairs: how many were trained on.
        held_out: the photos that were not.
        before, after: with the map's weights and with the new ones.
    """

    weights: Path
    photos: int
    pairs: int
    held_out: list[str]
    before: Figures
    after: Figures


def adapt(
    root: str | Path,
    to: str | Path | None = None,
    steps: int = 300,
    photos: str | Path | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Adaptation:
    """Train the features of a map on, on its own photos: warps of each, and pairs that share tracks of its points.

    Some photos are held out; they tell what was gained. Run again, it goes on from the checkpoint beside the weights.

    Args:
        root: workspace of the map. Where its features are others than `tpr`, the shipped weights are adapted.
        to: the weights to write; `adapted.safetensors` in the workspace if left out.
        steps: of training; 300 take some minutes.
        photos: a folder of other photos, trained on beside the map's and held out for `Figures.accuracy`.
        device: "auto", "cpu" or "cuda".
        overrides: "key=value" of the learner's configuration `adapt`.
        progress: receives the progress.

    Raises:
        TpsfmError: the map is too small, its photos or weights are gone, or training can't go on.
    """
    progress = progress or Progress()
    workspace, model = open_map(Path(root))
    weights = Path(to) if to is not None else workspace.root / FILE
    stages = Stages.recorded(workspace, features="tpr", device=device, **_others(workspace))
    start = Path(stages.features.weights or shipped_weights()).resolve()
    if weights.suffix != ".safetensors":
        raise TpsfmError(f"{weights}: the weights' name must end in .safetensors")
    if weights.resolve() == start:
        raise TpsfmError(f"{weights}: the map is made with these weights; name another file with --to")
    try:
        name, options = read_weights(start)[0]
        config = load_config("adapt", [f"optimization.steps={steps}", *overrides])
        config.network, config.start = NetworkConfig(name, options), str(start)
        config.run.bfloat16 = computes_bfloat16(choose_device(device))
        scene = Scene(workspace, model)
        data = scene.data(None if photos is None else Path(photos), config.validation, choose_device(device))
        with workspace.locked():
            before = scene.figures(stages, start, data, progress, "before")
            trainer = Trainer(data, config, weights, device)
            if trainer.checkpoint.exists():
                trainer.resume()
            trainer.run()
            after = scene.figures(stages, weights, data, progress, "after")
    except (ConfigError, WeightsError, TrainingStopped) as error:
        raise TpsfmError(str(error)) from error
    return Adaptation(weights, len(data.photos), len(data.matched), scene.held_out, before, after)


def _others(workspace: Workspace) -> dict[str, Any]:
    """Options of a map of other features than ours that ours don't share."""
    own = workspace.manifest["options"].get("features", "tpr") == "tpr"
    return {"pairs_file": None, "pairs": "auto"} | ({} if own else {"weights": None, "ratio": None})


class Scene:
    """A map's photos, some of them held out, and which landmarks they show.

    Raises:
        TpsfmError: there are too few photos.
    """

    def __init__(self, workspace: Workspace, model: Model) -> None:
        self.workspace, self.model = workspace, model
        turns = workspace.manifest.get("turns", {})
        records = unchanged_photos(workspace.photos, workspace.images)
        self.records = {n: replace(records[n], turn=turns.get(n, 0)) for n in model.images if n in records}
        if len(self.records) < MIN_PHOTOS:
            raise TpsfmError(
                f"{workspace.root}: its map has {len(self.records)} photos that are still in {workspace.images} as they"
                f" were; adapting takes {MIN_PHOTOS}"
            )
        ranked = sorted(self.records, key=hashed)
        count = min(max(round(HELD_OUT * len(ranked)), 2), MOST_HELD_OUT)
        self.held_out, rest = sorted(ranked[:count]), sorted(ranked[count:])
        self.learned = rest[:: -(-len(rest) // MAX_PHOTOS)]
        self.observations = read_observations(workspace.sparse)
        names = sorted(self.records)
        shown = [points[points >= 0] for points in (self.observations[name][1] for name in names)]
        rows = np.repeat(np.arange(len(names)), [len(points) for points in shown])
        columns = np.concatenate(shown)
        seen = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(names), len(model.points)))
        seen.data[:] = 1
        self._rows, self._seen = {name: row for row, name in enumerate(names)}, seen
        self._shared = (seen @ seen.T).tocsr()

    def data(self, folder: Path | None, validation: Any, device: torch.device) -> Data:
        """What the learner takes: the photos with the landmarks they share, and warps of photos that are held out.

        Args:
            folder: of other photos, which join those of the map; then theirs are held out for the warps.
            validation: how many warps, and of which size.
        """
        images = self.workspace.images
        paths = {images / name: photo for name, photo in self.records.items()}

        def read(path: Path, side: int) -> tuple[np.ndarray, float]:
            return seen_pixels(paths[path], side) if path in paths else read_reduced(path, side)

        train = [images / name for name in self.learned]
        held_out = [images / name for name in self.held_out]
        if folder is not None:
            others, held_out = split(find_photos(folder), folder, 0.08)
            train += others
        photos = Photos(train, SIDE, device=device, read=read)
        warped = Photos(held_out, SIDE, device=device, read=read)
        places = {path: place for place, path in enumerate(photos.paths)}
        learned = [name for name in self.learned if images / name in places]
        matched = self._matched(learned, [places[images / name] for name in learned], photos)
        if not matched or not len(warped):
            raise TpsfmError(f"{self.workspace.root}: no two of its photos share {MIN_SHARED} points")
        content = [map_digest(self.workspace), *(str(path) for path in photos.paths)]
        digest = hashlib.blake2b("\n".join(content).encode(), digest_size=8).hexdigest()
        pairs = validation_pairs(warped, validation.size, validation.pairs)
        return Data(self.workspace.images, photos, pairs, digest, matched=matched)

    def _matched(self, names: list[str], places: list[int], photos: Photos) -> list[Matched]:
        """The pairs that share enough landmarks."""
        rows = [self._rows[name] for name in names]
        shared = self._shared[rows][:, rows].toarray()
        pairs = np.argwhere(np.triu(shared >= MIN_SHARED, 1))
        if len(pairs) > MAX_PAIRS:
            pairs = pairs[np.sort(np.random.default_rng(0).permutation(len(pairs))[:MAX_PAIRS])]
        where, points = [], []
        for name, place in zip(names, places, strict=True):
            keypoints, shown = self.observations[name]
            where.append(seen_places(self.records[name], keypoints[shown >= 0], photos.scales[place]))
            points.append(shown[shown >= 0])
        matched = []
        for i, j in pairs:
            _, ours, theirs = np.intersect1d(points[i], points[j], return_indices=True)
            one, other = (torch.from_numpy(where[k][index]) for k, index in ((i, ours), (j, theirs)))
            matched.append(Matched(places[i], places[j], one, other))
        return matched

    def neighbours(self, name: str) -> list[str]:
        """The photos of the map, held-out ones left out, that share most landmarks with a photo."""
        names = np.array(sorted(self.records))
        shared = self._shared[self._rows[name]].toarray()[0]
        shared[[self._rows[other] for other in self.held_out]] = 0
        best = np.argsort(-shared, kind="stable")[:NEIGHBOURS]
        return names[best[shared[best] > 0]].tolist()

    def figures(self, stages: Stages, weights: Path, data: Data, progress: Progress, label: str) -> Figures:
        """What weights give: the held-out photos are localized in a map of their neighbours at their known poses."""
        network, _ = load_weights(weights)
        accuracy = _accuracy(network, data)
        neighbours = {name: self.neighbours(name) for name in self.held_out}
        names = sorted({name for some in neighbours.values() for name in some})
        with tempfile.TemporaryDirectory(dir=self.workspace.root) as folder:
            temporary = self._map(stages, weights, names, Path(folder), progress)
            if temporary is None:
                return Figures(0, 0, 0, 0, float("nan"), accuracy)
            map_ = Map(temporary.root, device=stages.features.device)
            registered = matches = inliers = 0
            errors = []
            with progress.bar(label, len(self.held_out)) as update:
                for done, (name, others) in enumerate(neighbours.items(), 1):
                    camera = self.model.cameras[self.model.images[name].camera_id]
                    photo = replace(self.records[name], turn=0)
                    result, features = map_.localize_with_features(photo, camera, retrieved=others)
                    update(done, len(self.held_out))
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
        self, stages: Stages, weights: Path, names: list[str], folder: Path, progress: Progress
    ) -> Workspace | None:
        """A map of some of the photos at their known poses; None where no point comes out."""
        listed = folder / "photos.txt"
        listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        stages = Stages.of(**{**stages.options, "weights": weights, "list": listed, "cluster": None, "workers": 0})
        temporary = Workspace.open(folder / "map", create=True)
        temporary.manifest["turns"] = self.workspace.manifest.get("turns", {})
        stages.record(temporary, self.workspace.images)
        for stage in (stages.features, stages.pairs, stages.matching):
            stage.run(temporary, progress)
        known = Model.of_cameras(self.model.cameras, {name: self.model.images[name] for name in names})
        pairs = [pair for pair in chosen_pairs(temporary) if set(pair) <= known.images.keys()]
        try:
            triangulate(temporary, known, temporary.sparse, pairs, stages.mapping.seed, stages.mapping.threads)
        except TpsfmError as error:
            log.info("%s", error)
            return None
        return temporary


def seen_pixels(photo: Photo, side: int) -> tuple[np.ndarray, float]:
    """A photo as it is seen, turned by its EXIF orientation and its turn, and reduced.

    Returns:
        uint8 [H, W, 3], before a turn at most `side` pixels wide and high; and its scale.

    Raises:
        OSError: it can't be read.
    """
    try:
        image = upright(photo.decode(side), photo.orientation)
    except TpsfmError as error:
        raise OSError(str(error)) from error
    image = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, 2)
    scale = min(side, max(image.shape)) / max(photo.size)
    width, height = _seen_size(photo, scale)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if photo.turn:
        matrix, size = rotation((width, height), photo.turn)
        image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return image, scale


def seen_places(photo: Photo, keypoints: np.ndarray, scale: float) -> np.ndarray:
    """Where keypoints [N, 2] of a photo as stored lie in its `seen_pixels` of a scale: float32 [N, 2]."""
    size = _seen_size(photo, scale)
    places = decoded_keypoints(keypoints, INVERSE[photo.orientation], photo.seen_size)
    places = rescale_points(places, np.array(size) / np.array(photo.seen_size))
    if photo.turn:
        matrix, _ = rotation(size, photo.turn)
        places = places @ matrix[:, :2].T + matrix[:, 2]
    return places.astype(np.float32)


def _seen_size(photo: Photo, scale: float) -> tuple[int, int]:
    """(width, height) of an upright photo at a scale."""
    width, height = photo.seen_size
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _accuracy(network: Network, data: Data) -> float:
    return validate(network.to(data.pairs.first.device), data.pairs)["accuracy"]

"""A map made for localization: loaded once, it gives poses to many photos."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from tpsfm import colmap
from tpsfm.errors import TpsfmError
from tpsfm.features import Extractor, Features
from tpsfm.features.upright import upright_features
from tpsfm.geometry.model import Camera, Model
from tpsfm.io.store import FeatureStore
from tpsfm.io.workspace import Workspace
from tpsfm.localization.intrinsics import Intrinsics, intrinsics_of
from tpsfm.localization.landmarks import (
    Matches,
    best_point_each,
    covisible_groups,
    match_landmarks,
    read_landmarks,
)
from tpsfm.localization.pose import (
    MIN_INLIERS,
    Localization,
    estimate,
    objection,
    occupied_cells,
    uncertainty,
    with_map_errors,
)
from tpsfm.photos.images import ImageInfo, check_pixels, probe, read_image, turned
from tpsfm.reconstruction import Options
from tpsfm.reconstruction.report import map_digest, open_map
from tpsfm.retrieval.index import Index, key_of_global
from tpsfm.retrieval.vlad import VLAD

FIRST = 5  # images matched at first; most photos need no more
ENOUGH = 200  # inliers with which the others are left alone


class Map:
    """A workspace's map, ready to localize photos; many threads may do so at once.

    It holds the map's points, a global descriptor of each image and the local descriptors of the keypoints that show
    a point (2 D bytes each), and it never writes into the workspace.

    Args:
        workspace: the folder of a reconstruction; it may have been moved.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        top_k: how many of the map's images a photo is matched with.

    Attributes:
        workspace, model, extractor, options: of the map.
        images: the folder of its photos, which may be gone; they are not needed.
        ratio: of the matches, None tests nothing.
        digest: tells this map from any other.

    Raises:
        TpsfmError: there is no map, it is damaged or empty, or the extractor is not the one that made its features.
    """

    def __init__(self, workspace: str | Path, device: str = "auto", top_k: int = 20) -> None:
        if top_k < 1:
            raise TpsfmError(f"the number of images to retrieve must be at least 1, not {top_k}")
        self.workspace, self.model = open_map(Path(workspace))
        self.digest = map_digest(self.workspace)
        self.top_k = top_k
        if not self.model.images or not len(self.model.points):
            raise TpsfmError(f"{workspace}: its map is empty; build it again from photos that overlap more")
        self.options = Options(**{**self.workspace.manifest["options"], "device": device})
        self.extractor = self.options.extractor()
        self.ratio = self.options.match_ratio()
        self.images = Path(self.workspace.manifest.get("images") or "")
        with FeatureStore(self.workspace.features) as store:
            _check_extractor(self.workspace, store, self.extractor)
            photos = self.workspace.manifest["photos"]
            self._descriptor = VLAD.create(self.extractor, sorted(photos), store.read, self.options.seed)
            self._index = Index()
            device = torch.device(self.extractor.device)
            self._landmarks = read_landmarks(self.workspace, store, device, self._visitor(store))
        self._rows = {name: row for row, name in enumerate(self._landmarks.names)}
        self._cameras = _known_cameras(self.model, self.images)
        focals = [self.model.cameras[pose.camera_id].matrix[0, 0] for pose in self.model.images.values()]
        self._error = float(self.model.errors.mean() / np.median(focals))  # radians

    @property
    def fingerprint(self) -> dict:
        """All that a pose depends on beside the photo and its camera, JSON-serializable."""
        return {
            "map": self.digest,
            "extractor": self.extractor.fingerprint,
            "min_similarity": self.options.min_similarity,
            "ratio": self.ratio,
            "seed": self.options.seed,
            "top_k": self.top_k,
        }

    def localize(
        self,
        image: str | Path | np.ndarray,
        camera: Camera | None = None,
        name: str | None = None,
        retrieved: Sequence[str] | None = None,
    ) -> Localization:
        """The pose of a photo.

        Args:
            image: its file, or its pixels uint8 [H, W, 3] RGB or [H, W].
            camera: its intrinsics, where they are known.
            name: what it is called in the result; the file's name if left out.
            retrieved: the map's images to match it with, the most like it first; found by their global descriptors if
                left out. Names that the map does not have are passed over.

        Returns:
            A `Localization`; a photo that has no pose as it is was tried turned by quarters too. One that can't be read
            or found in the map has the status "failed".

        Raises:
            TpsfmError: the pixels are of another type or shape.
        """
        return self.localize_with_features(image, camera, name, retrieved)[0]

    def localize_with_features(
        self,
        image: str | Path | np.ndarray,
        camera: Camera | None = None,
        name: str | None = None,
        retrieved: Sequence[str] | None = None,
    ) -> tuple[Localization, Features | None]:
        """As `localize`, and the photo's features (None where it can't be read)."""
        if isinstance(image, np.ndarray):
            check_pixels(image)
        if name is None:
            name = "image" if isinstance(image, np.ndarray) else Path(image).name
        result = Localization(name)
        try:
            with _timed(result, "read"):
                pixels, info = _read(image)
                ways = intrinsics_of(info, camera, self._cameras)
        except TpsfmError as error:
            result.reason = str(error)
            return result, None
        attempts = []
        for quarters in range(4):
            attempt = Localization(name, seconds=result.seconds)
            with _timed(attempt, "extract"):
                features = upright_features(self.extractor, pixels, None, turned(info.orientation, quarters))
            self._find(attempt, features, ways, retrieved)
            attempts.append((attempt, features))
            if attempt.pose is not None:
                return attempts[-1]
        return attempts[0]

    def _find(self, result: Localization, features: Features, ways: list[Intrinsics], retrieved) -> None:
        if not len(features):
            result.reason = "no keypoints: the photo is dark, blurred or blank"
            return
        with _timed(result, "retrieve"):
            if retrieved is None:
                vector = self._descriptor.describe(features)
                images = self._index.search(vector[None], self.top_k)[0][0].tolist()
            else:
                images = [self._rows[name] for name in retrieved if name in self._rows]
            result.retrieved = [self._index.names[image] for image in images]
        matches = Matches.none()
        for few in (images[:FIRST], images[FIRST:]):
            with _timed(result, "match"):
                found = match_landmarks(
                    features.descriptors, self._landmarks, few, self.ratio, self.options.min_similarity
                )
                matches = matches + found
            with _timed(result, "pose"):
                self._pose(result, features, matches, ways[0])
            if result.inliers >= ENOUGH and result.pose is not None:
                break
        for intrinsics in ways[1:]:
            if result.pose is None:
                with _timed(result, "pose"):
                    self._pose(result, features, matches, intrinsics)

    def _pose(self, result, features: Features, matches: Matches, intrinsics: Intrinsics) -> None:
        """Take the pose of the covisible group that has the most inliers, if it can be trusted."""
        result.camera_source = intrinsics.source
        scale = max(1.0, max(features.image_size) / self.options.max_size)
        best, most = None, 0
        for group in covisible_groups(self._landmarks, list(dict.fromkeys(matches.images.tolist()))):
            ours = matches.select(np.isin(matches.images, group))
            chosen = best_point_each(ours, self._landmarks.points)
            most = max(most, len(chosen))
            if len(chosen) < MIN_INLIERS:
                continue
            rows = self._landmarks.points[chosen.landmarks]
            keypoints = features.keypoints[chosen.keypoints]
            found = estimate(keypoints, self.model.points[rows], intrinsics, scale, self.options.seed)
            if found is not None and (best is None or found.inliers.sum() > best[0].inliers.sum()):
                best = found, chosen, ours
        if best is None:
            few = "too few matches with the map" if most < MIN_INLIERS else "no pose agrees with the matches"
            result.reason = f"{few} ({most})"
            return
        found, chosen, ours = best
        result.inliers = int(found.inliers.sum())
        result.ratio = result.inliers / len(chosen)
        inliers = chosen.select(found.inliers)
        keypoints = features.keypoints[inliers.keypoints]
        result.matches = np.stack([inliers.keypoints, self._landmarks.points[inliers.landmarks]], 1)
        self._draw(result, features, ours)
        result.reason = objection(result.inliers, len(chosen), occupied_cells(keypoints, found.camera))
        if result.reason:
            return
        result.status, result.pose, result.camera = "localized", found.pose, found.camera
        result.covariance = with_map_errors(found.pose, found.covariance, self._error)
        result.position_uncertainty, result.rotation_uncertainty = uncertainty(found.pose, result.covariance)

    def _draw(self, result: Localization, features: Features, matches: Matches) -> None:
        """Note the inliers in the map's image that has most of them."""
        agreed = {tuple(pair) for pair in result.matches.tolist()}
        points = self._landmarks.points[matches.landmarks]
        keep = [pair in agreed for pair in zip(matches.keypoints.tolist(), points.tolist(), strict=True)]
        matches = matches.select(np.array(keep, bool))
        if not len(matches):
            return
        image = int(np.bincount(matches.images).argmax())
        matches = matches.select(matches.images == image)
        result.best_image = self._landmarks.names[image]
        ends = features.keypoints[matches.keypoints], self._landmarks.keypoints[matches.landmarks]
        result.lines = np.hstack(ends).astype(np.float32)

    def _visitor(self, store: FeatureStore):
        """Adds each image's global descriptor to the index: the stored one where it is up to date."""
        descriptor = self._descriptor

        def visit(name: str, features: Features) -> None:
            stored = store.global_key(name) == key_of_global(store, name, descriptor)
            vector = store.read_global(name) if stored else descriptor.describe(features)
            self._index.add([name], vector[None])

        return visit


def _check_extractor(workspace: Workspace, store: FeatureStore, extractor: Extractor) -> None:
    """Refuse an extractor that does not see what the map's did."""
    made, now = store.extractor, extractor.fingerprint
    differing = sorted(key for key in made.keys() | now.keys() if made.get(key) != now.get(key))
    if differing:
        changes = ", ".join(f"{key} was {made.get(key)}, is {now.get(key)}" for key in differing)
        raise TpsfmError(
            f"{workspace.root}: its features were made by another extractor ({changes}); take the one it was made with,"
            f" or run 'tpsfm reconstruct' again"
        )


def _known_cameras(model: Model, images: Path) -> dict[Hashable, Camera]:
    """The map's cameras by device (where its photos are still there) and by (width, height)."""
    cameras: dict[Hashable, Camera] = {}
    for name, pose in sorted(model.images.items(), key=lambda item: item[1].observations):
        camera = model.cameras[pose.camera_id]
        cameras[camera.width, camera.height] = camera
        with suppress(TpsfmError):
            device = colmap.device(probe(images / name))
            if device is not None:
                cameras[device] = camera
    return cameras


def _read(image: str | Path | np.ndarray) -> tuple[np.ndarray, ImageInfo]:
    if isinstance(image, np.ndarray):
        height, width = image.shape[:2]
        return image, ImageInfo(width, height, 1, "", "", None, None)
    return read_image(Path(image)), probe(Path(image))


@contextmanager
def _timed(result: Localization, step: str):
    start = time.perf_counter()
    yield
    result.seconds[step] = result.seconds.get(step, 0.0) + time.perf_counter() - start

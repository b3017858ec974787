"""A map made ready for localization: loaded once, it gives poses to many photos."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.alignment.storage import read_patches_of
from tpsfm.alignment.tracks import Patches
from tpsfm.colmap import read_point_ids
from tpsfm.errors import TpsfmError
from tpsfm.features import Extractor, Features
from tpsfm.features.store import FeatureStore
from tpsfm.features.upright import upright_features
from tpsfm.geometry import Camera
from tpsfm.io.workspace import Workspace, digest
from tpsfm.localization.acceptance import Attempt, accept
from tpsfm.localization.alignment import align_estimate
from tpsfm.localization.correspondences import Correspondences, match_landmarks
from tpsfm.localization.estimation import Estimate, confirms_camera, estimate_in_groups
from tpsfm.localization.intrinsics import Intrinsics, intrinsics_of, known_cameras
from tpsfm.localization.landmarks import load_landmarks
from tpsfm.localization.result import Localization, result_of
from tpsfm.photos import Photo, check_pixels, kept_photos, read_photo, upright
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.opening import map_digest, open_map
from tpsfm.reconstruction.previews import TURNS, preview
from tpsfm.reconstruction.world import transform_of
from tpsfm.retrieval import global_descriptor_class
from tpsfm.retrieval.index import Index, key_of_global

FIRST_IMAGES = 5  # matched first; most photos need no more
SUFFICIENT_INLIERS = 200  # with which the other images are not matched
SCREENING_KEYPOINTS = 2048  # of a photo with twice as many, the strongest, by which it is refused
VOTING_IMAGES = 3  # with which a photo's strongest keypoints, or those of a small copy at each turn, are matched first
# Keypoints of the copy that match them, for the photo to be tried at that turn; foreign photos had up to 14.
MIN_VOTES = 20
VOTE_RATIO = 1.5  # of them to those at the best other turn


class Map:
    """A workspace's map, ready to localize photos; several threads may do so at once.

    It holds the map's points and a global descriptor of each image; the local descriptors of its landmarks are mapped
    into memory from a file that it makes in the workspace (see `load_landmarks`), the only one it ever writes there.

    Args:
        workspace: the folder of a reconstruction; it may have been moved.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        top_k: how many of the map's images a photo is matched with.
        model: which of the workspace's models, 0 the largest.

    Attributes:
        workspace, model, extractor, matcher, stages: of the map.
        images: the folder of its photos; they are not needed and may be gone.
        digest: of this build of the map.

    Raises:
        TpsfmError: there is no map, it is damaged or empty, or the extractor is not the one that made its features.
    """

    def __init__(self, workspace: str | Path, device: str = "auto", top_k: int = 20, model: int = 0) -> None:
        if top_k < 1:
            raise TpsfmError(f"the number of images to retrieve must be at least 1, not {top_k}")
        self.workspace, self.model = open_map(Path(workspace), model)
        self.digest = map_digest(self.workspace)
        self.top_k = top_k
        if not self.model.images or not len(self.model.points):
            raise TpsfmError(f"{workspace}: its map is empty; build it again from photos that overlap more")
        if "photos" not in self.workspace.manifest:
            images = self.workspace.images
            raise TpsfmError(
                f"{workspace}: its map is another program's; make its points of our features with 'tpsfm reconstruct"
                f" {images} {workspace} --poses {self.workspace.root / 'imported'}'"
            )
        self.stages = Stages.recorded(self.workspace, device=device)
        self.extractor = self.stages.features.extractor()
        self.matcher = self.stages.matching.create_matcher(type(self.extractor))
        self.images = self.workspace.images
        with FeatureStore(self.workspace.features) as store:
            _check_extractor(self.workspace, store, self.extractor)
            photos = self.workspace.manifest["photos"]
            make = global_descriptor_class(self.stages.pairs.global_descriptor).create
            self._descriptor = make(self.extractor, sorted(photos), store.read, self.stages.mapping.seed)

            def describe(name: str, features: Features) -> np.ndarray:
                stored = store.global_key(name) == key_of_global(store, name, self._descriptor)
                return store.read_global(name) if stored else self._descriptor.describe(features)

            keys = [store.key(name) for name in self.model.images]
            key = digest([self.digest, keys, self._descriptor.fingerprint])
            self._landmarks, vectors = load_landmarks(self.workspace, self.model, store, describe, key)
        self._patches = None
        if self.workspace.patches.exists():
            self._patches = read_patches_of(self.workspace.patches, read_point_ids(self.workspace.sparse))
            moved = transform_of(self.workspace.sparse)  # the patches are in the frame of `mapped`
            if moved is not None:
                axes = np.einsum("ij,njk->nik", moved.rotation, self._patches.axes).astype(np.float32)
                jacobians = (self._patches.jacobians / moved.scale).astype(np.float32)
                self._patches = replace(self._patches, axes=axes, jacobians=jacobians)
        self._index = Index()
        self._index.add(self._landmarks.names, vectors)
        self._rows = {name: row for row, name in enumerate(self._landmarks.names)}
        self._cameras = known_cameras(self.model, kept_photos(self.workspace.photos, self.images), self.images)
        focals = [self.model.cameras[pose.camera_id].matrix[0, 0] for pose in self.model.images.values()]
        self._error = float(self.model.errors.mean() / np.median(focals))  # radians

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that a pose depends on besides the photo and its camera, JSON-serializable."""
        return {
            "map": self.digest,
            "extractor": self.extractor.fingerprint,
            "matcher": self.matcher.fingerprint,
            "aligned": self._patches is not None,
            "seed": self.stages.mapping.seed,
            "top_k": self.top_k,
        }

    def localize(
        self,
        image: str | Path | np.ndarray | Photo,
        camera: Camera | None = None,
        name: str | None = None,
        retrieved: Sequence[str] | None = None,
        mask: np.ndarray | None = None,
    ) -> Localization:
        """The pose of a photo.

        Args:
            image: its file, its record, or its pixels uint8 [H, W, 3] RGB or [H, W].
            camera: its intrinsics, where they are known.
            name: what it is called in the result; the file's name if left out.
            retrieved: the map's images to match it with, the most similar first; found by their global descriptors if
                left out. Names that the map does not have are ignored.
            mask: bool [H, W] of the pixels, False where no keypoint may lie.

        Returns:
            A `Localization`. A photo that has no pose as it is, is tried once more turned by an eighth, two, three ...
            of a full turn where a small copy of it matches the map better so; one that can't be read or localized has
            the status "failed" and a reason.

        Raises:
            TpsfmError: the pixels are of another type or shape.
        """
        return self.localize_with_features(image, camera, name, retrieved, mask)[0]

    def localize_with_features(
        self,
        image: str | Path | np.ndarray | Photo,
        camera: Camera | None = None,
        name: str | None = None,
        retrieved: Sequence[str] | None = None,
        mask: np.ndarray | None = None,
    ) -> tuple[Localization, Features | None]:
        """As `localize`, and the photo's features (None where it can't be read)."""
        if isinstance(image, np.ndarray):
            check_pixels(image)
        if name is None:
            name = _name(image)
        clock = Clock()
        try:
            with clock.time("read"):
                pixels, photo = _read(image)
                hypotheses = intrinsics_of(photo, camera, self._cameras)
        except TpsfmError as error:
            return Localization(name, reason=str(error), seconds=clock.seconds), None

        def attempt(turn: float) -> tuple[Localization, Features]:
            with clock.time("extract"):
                found = upright_features(self.extractor, pixels, mask, photo.orientation, photo.size, turn)
            return self._localize(name, pixels, found, hypotheses, retrieved, clock, doubtful=turn > 0), found

        result, features = attempt(0)
        if result.pose is None and len(features) and not self.extractor.rotation_invariant:
            with clock.time("turns"):
                turn = self._likely_turn(upright(pixels, photo.orientation), retrieved)
            if turn:
                again = attempt(turn)
                result, features = again if again[0].pose is not None else (result, features)
        return replace(result, seconds=clock.seconds), features

    def _likely_turn(self, pixels: np.ndarray, retrieved: Sequence[str] | None) -> int:
        """By how many degrees clockwise a photo seen upright is to be turned so that a small copy of it matches the
        map clearly better than at other turns; 0 where there is no such turn."""
        votes = []
        for level in preview(self.extractor, pixels):
            level = level.unpacked()
            images = self._retrieve(level, retrieved)[:VOTING_IMAGES] if len(level) else []
            votes.append(len(np.unique(match_landmarks(level, self._landmarks, images, self.matcher).keypoints)))
        best = int(np.argmax(votes))
        others = [votes[(best + shift) % TURNS] for shift in range(2, TURNS - 1)]
        return best * 360 // TURNS if votes[best] >= max(MIN_VOTES, VOTE_RATIO * max(others)) else 0

    def _localize(
        self,
        name: str,
        pixels: np.ndarray,
        features: Features,
        hypotheses: Sequence[Intrinsics],
        retrieved: Sequence[str] | None,
        clock: Clock,
        doubtful: bool,
    ) -> Localization:
        """One attempt: retrieve, match, estimate, accept, align; with few images first, then with all.

        Args:
            doubtful: whether the others are left out where no pose at all agrees with the matches of the first.
        """
        if not len(features):
            return Localization(name, reason="no keypoints: the photo is dark, blurred or blank")
        with clock.time("retrieve"):
            images = self._retrieve(features, retrieved)

        refused = self._refuse(features, images, hypotheses, clock)
        if refused is not None:
            return result_of(name, refused, features, self._landmarks, images, self._error)

        first, others = images[:FIRST_IMAGES], images[FIRST_IMAGES:]
        matches = self._match(features, first, clock)
        best = self._estimate(features, matches, hypotheses[0], clock)
        settled = best.accepted and best.estimate.inliers >= SUFFICIENT_INLIERS
        if others and not settled and not (doubtful and not best.estimate.inliers):
            matches += self._match(features, others, clock)
            again = self._estimate(features, matches, hypotheses[0], clock)
            best = again if again.accepted or not best.accepted else best
        for intrinsics in hypotheses[1:]:
            if best.accepted and self._confirms_camera(best.estimate, features, clock):
                break
            other = self._estimate(features, matches, intrinsics, clock)
            if not best.accepted or (other.accepted and other.estimate.inliers > best.estimate.inliers):
                best = other
        if best.accepted and self._patches is not None:
            with clock.time("align"):
                best = replace(best, estimate=self._align(best.estimate, pixels, features, self._patches))
        return result_of(name, best, features, self._landmarks, images, self._error)

    def _refuse(
        self, features: Features, images: Sequence[int], hypotheses: Sequence[Intrinsics], clock: Clock
    ) -> Attempt | None:
        """Why a photo isn't looked at any closer: no pose at all agrees with the matches of its strongest keypoints.

        None where one does, or where it hasn't many more keypoints than those.
        """
        if len(features) < 2 * SCREENING_KEYPOINTS:
            return None
        strongest = features.select(slice(0, SCREENING_KEYPOINTS))
        matches, found = Correspondences.none(), None
        for some in (images[:VOTING_IMAGES], images[VOTING_IMAGES:]):
            matches += self._match(strongest, some, clock)
            for intrinsics in hypotheses:
                found = self._estimate(strongest, matches, intrinsics, clock)
                if found.estimate.inliers:
                    return None
        return found

    def _retrieve(self, features: Features, retrieved: Sequence[str] | None) -> list[int]:
        """Indices of the map's images most similar to a query, or of those that are given."""
        if retrieved is not None:
            return [self._rows[name] for name in retrieved if name in self._rows]
        vector = self._descriptor.describe(features)
        return self._index.search(vector[None], self.top_k)[0][0].tolist()

    def _match(self, features: Features, images: Sequence[int], clock: Clock) -> Correspondences:
        with clock.time("match"):
            return match_landmarks(features, self._landmarks, images, self.matcher)

    def _align(self, estimate: Estimate, pixels: np.ndarray, features: Features, patches: Patches) -> Estimate:
        points, device = self.model.points, self.extractor.device
        max_size, seed = self.stages.features.max_size, self.stages.mapping.seed
        return align_estimate(estimate, pixels, features, self._landmarks, points, patches, max_size, device, seed)

    def _estimate(self, features: Features, matches: Correspondences, intrinsics: Intrinsics, clock: Clock) -> Attempt:
        with clock.time("pose"):
            scale = max(1.0, max(features.image_size) / self.stages.features.max_size)
            points, seed = self.model.points, self.stages.mapping.seed
            found = estimate_in_groups(features, matches, self._landmarks, points, intrinsics, scale, seed)
            return accept(found, features.keypoints)

    def _confirms_camera(self, found: Estimate, features: Features, clock: Clock) -> bool:
        with clock.time("pose"):
            points = self.model.points[self._landmarks.points[found.correspondences.landmarks]]
            return confirms_camera(found, features, points)


class Clock:
    """Wall time by step.

    Attributes:
        seconds: by the step's name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add the block's time to a step's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


def _check_extractor(workspace: Workspace, store: FeatureStore, extractor: Extractor) -> None:
    """Refuse an extractor other than the one that made the map's features."""
    made, now = store.extractor, extractor.fingerprint
    differing = sorted(key for key in made.keys() | now.keys() if made.get(key) != now.get(key))
    if differing:
        changes = ", ".join(f"{key} was {made.get(key)}, is {now.get(key)}" for key in differing)
        raise TpsfmError(
            f"{workspace.root}: its features were made by another extractor ({changes}); take the one it was made with,"
            f" or run 'tpsfm reconstruct' again"
        )


def _name(image: str | Path | np.ndarray | Photo) -> str:
    if isinstance(image, np.ndarray):
        return "image"
    return image.name if isinstance(image, Photo) else Path(image).name


def _read(image: str | Path | np.ndarray | Photo) -> tuple[np.ndarray, Photo]:
    """Pixels and record of a photo; that of bare pixels has their size alone."""
    if isinstance(image, np.ndarray):
        return image, Photo(image.shape[1], image.shape[0])
    photo = image if isinstance(image, Photo) else read_photo(Path(image))
    return photo.decode(), photo

"""A map's photos as the learner takes them: as they are seen, with the landmarks that they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.sparse import csr_matrix
from tpr.config import Validation
from tpr.data import Data
from tpr.landmarks import Matched
from tpr.photos import Photos, find_photos, read_reduced, split
from tpr.randomness import hashed
from tpr.validation import validation_pairs

from tpsfm.colmap import read_observations
from tpsfm.errors import TpsfmError
from tpsfm.features.upright import rotation
from tpsfm.geometry import Model, rescale_points
from tpsfm.io.workspace import Workspace, digest
from tpsfm.photos import Photo, unchanged_photos, upright, upright_keypoints
from tpsfm.reconstruction.opening import map_digest

MIN_PHOTOS = 6  # of a map
MAX_PHOTOS = 200  # that are trained on, of larger maps; a photo takes 3 MB
SIDE = 1024  # pixels of their longer sides
HELD_OUT, MOST_HELD_OUT = 0.2, 10  # the share of the photos, and how many at most
OTHERS_HELD_OUT = 0.08  # of other photos
MIN_SHARED = 16  # landmarks of a pair of photos
MAX_PAIRS = 2000


class Scene:
    """A map's photos, some of them held out, and which landmarks they show.

    Attributes:
        workspace, model: of the map.
        records: the photos that are still as they were, by name.
        held_out, learned: their names; of a large map some are neither.
        observations: as `read_observations` gives them.

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
        self._rows = {name: row for row, name in enumerate(names)}
        self._shared = (seen @ seen.T).tocsr()

    def data(self, folder: Path | None, validation: Validation, device: torch.device) -> Data:
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
            others, held_out = split(find_photos(folder), folder, OTHERS_HELD_OUT)
            train += others
        photos = Photos(train, SIDE, device=device, read=read)
        warped = Photos(held_out, SIDE, device=device, read=read)
        places = {path: place for place, path in enumerate(photos.paths)}
        learned = [name for name in self.learned if images / name in places]
        matched = self._matched(learned, [places[images / name] for name in learned], photos)
        if not matched or not len(warped):
            raise TpsfmError(f"{self.workspace.root}: no two of its photos share {MIN_SHARED} points")
        learned_from = digest([map_digest(self.workspace), *(str(path) for path in photos.paths)])
        pairs = validation_pairs(warped, validation.size, validation.pairs)
        return Data(images, photos, pairs, learned_from, matched=matched)

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

    def neighbours(self, name: str, count: int) -> list[str]:
        """The photos of the map, held-out ones left out, that share most landmarks with a photo."""
        names = np.array(sorted(self.records))
        shared = self._shared[self._rows[name]].toarray()[0]
        shared[[self._rows[other] for other in self.held_out]] = 0
        best = np.argsort(-shared, kind="stable")[:count]
        return names[best[shared[best] > 0]].tolist()


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
    places = upright_keypoints(keypoints, photo.orientation, photo.size)
    places = rescale_points(places, np.array(size) / np.array(photo.seen_size))
    if photo.turn:
        matrix, _ = rotation(size, photo.turn)
        places = places @ matrix[:, :2].T + matrix[:, 2]
    return places.astype(np.float32)


def _seen_size(photo: Photo, scale: float) -> tuple[int, int]:
    """(width, height) of an upright photo at a scale."""
    width, height = photo.seen_size
    return max(round(width * scale), 1), max(round(height * scale), 1)

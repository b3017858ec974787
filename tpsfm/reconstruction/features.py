"""Features of every photo."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features import Extractor, extractor_class
from tpsfm.features.base import MAX_KEYPOINTS, MAX_SIZE, Features
from tpsfm.features.store import FeatureStore
from tpsfm.io.workspace import Workspace, digest
from tpsfm.parallel import in_parallel
from tpsfm.photos import Masks, Photo, PhotoCatalog
from tpsfm.progress import Progress
from tpsfm.reconstruction import remote
from tpsfm.reconstruction.stage import Done, Photos, Stage, option, problem_of

READ_AHEAD = 2  # photos decoded while the network works

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Extraction(Stage):
    """Extracts the features of every photo below the image folder; those under the same key stay.

    The key is a digest of the photo, its mask, its turn and the extractor's fingerprint. A photo that can't be read is
    left out and named in the manifest ("unreadable").

    `run` raises TpsfmError where the folder or the masks' folder is missing, the extractor can't be made, or fewer than
    two photos can be read.
    """

    name: ClassVar[str] = "extract"
    title: ClassVar[str] = "features"

    features: str = option("tpr", "tpr, sift, aliked, disk, xfeat or a plug-in's name.")
    weights: Path | None = option(None, "Weights file of the features; the shipped ones if left out.", path=True)
    max_keypoints: int = option(MAX_KEYPOINTS, "Keypoints a photo.", least=1)
    max_size: int = option(MAX_SIZE, "Longer side, pixels.", least=32)
    list: Path | None = option(
        None, "File of the photos to take, a name a line; all of the folder if left out.", path=True
    )
    masks: Path | None = option(None, "Folder of masks, image.jpg.png; black: no keypoints.", path=True)

    def problems(self, photos: Photos) -> Iterator[str]:
        yield from problem_of(self.extractor)
        if self.list is not None:
            yield from problem_of(photos)
        if self.masks is not None and not self.masks.is_dir():
            yield f"no folder of masks {self.masks}"

    def preview_extractor(self) -> Extractor:
        """The extractor of small copies of photos."""
        return self.extractor(**self.extractor_class.preview_options)

    @property
    def extractor_class(self) -> type[Extractor]:
        """The class of the extractor that the options name."""
        return extractor_class(self.features)

    def extractor(self, **more: Any) -> Extractor:
        """The extractor that the options name; `more` options replace those.

        Raises:
            TpsfmError: there is none of that name, or it doesn't take the options.
        """
        given = {"max_keypoints": self.max_keypoints, "max_size": self.max_size, "device": self.device}
        if self.weights is not None:
            given["weights"] = self.weights
        try:
            return self.extractor_class(**{**given, **self.extractor_class.map_options, **more})
        except TypeError as error:
            raise TpsfmError(f"the features '{self.features}' don't take these options: {error}") from error

    def catalog(self, workspace: Workspace) -> PhotoCatalog:
        """The photos to take.

        Raises:
            TpsfmError: as `PhotoCatalog`.
        """
        return PhotoCatalog(workspace.images, workspace.photos, self.masks, self.list)

    def _work(self, workspace: Workspace, progress: Progress) -> Done:
        images = workspace.images
        keys: dict[str, str] = {}
        mirrored: list[str] = []
        unreadable: dict[str, str] = {}
        catalog, extractor = self.catalog(workspace), self.extractor()
        masks = None if self.masks is None else Masks(self.masks, images, catalog.names)
        if masks is not None:
            log.log(logging.INFO if masks.complete else logging.WARNING, "%s", masks.summary())
        turns = workspace.manifest.get("turns", {})
        new = 0
        with (
            catalog,
            FeatureStore(workspace.features, "a") as store,
            progress.bar(self.title, len(catalog.names)) as update,
        ):
            store.describe(extractor.fingerprint)
            cluster = self._cluster(progress)
            content = Photo.decode if cluster is None else _file_content
            shared = (catalog, masks, turns, extractor, store, content)
            jobs = ((name, (name, *shared)) for name in catalog.names)

            def todo() -> Iterator[tuple[str, tuple[Photo, Any, np.ndarray | None]]]:
                """The photos that have to be extracted; what is known of the others is noted on the way."""
                for name, loaded in in_parallel(self._load, jobs, 1, READ_AHEAD):
                    if isinstance(loaded, TpsfmError):
                        unreadable[name] = str(loaded)
                        continue
                    keys[name], photo, pixels, mask = loaded
                    if photo.mirrored:
                        mirrored.append(name)
                    if pixels is not None:
                        yield name, (photo, pixels, mask)

            found: Iterator[tuple[str, Features | TpsfmError]]
            if cluster is None:
                own = ((name, (extractor, *photo)) for name, photo in todo())
                found = in_parallel(remote.features_of, own, most=extractor.at_once)
            else:
                found = cluster.run(remote.extract, todo(), self, extractor.fingerprint)
            for name, features in found:
                if isinstance(features, TpsfmError):
                    unreadable[name] = str(features)
                    del keys[name]
                else:
                    store.write(name, features, keys[name])
                    new += 1
                update(len(keys) + len(unreadable), len(catalog.names))
            update(len(catalog.names), len(catalog.names))
            for name, problem in unreadable.items():
                log.warning("%s: left out: %s", name, problem)
            keypoints = sum(store.count(name) for name in keys)
        if len(keys) < 2:
            count = f"{len(keys)} of {len(catalog.names)}"
            raise TpsfmError(f"{images}: {count} photos can be read; a map needs at least two")
        if mirrored:
            text = (
                "%d photos are stored mirrored by their EXIF (%s ...): here they are mirrored back, but other programs"
            )
            log.warning(f"{text} that read them with this map must do so too", len(mirrored), mirrored[0])
        workspace.manifest |= {"photos": keys, "unreadable": unreadable}
        counts = {"photos": len(keys), "keypoints": keypoints, "unreadable": len(unreadable)}
        return Done(digest(sorted(keys.items())), new, len(keys) - new, counts)

    def _load(
        self,
        name: str,
        catalog: PhotoCatalog,
        masks: Masks | None,
        turns: Mapping[str, int],
        extractor: Extractor,
        store: FeatureStore,
        content: Callable[[Photo], Any],
    ) -> tuple[str, Photo, Any, np.ndarray | None] | TpsfmError:
        """(key, photo, content, mask), the content None where the store has the features already; or what is wrong."""
        try:
            photo = replace(catalog[name], turn=turns.get(name, 0))
            mask = None if masks is None else masks.read(photo)
            mask_digest = None if mask is None else digest(np.packbits(mask).tobytes().hex())
            key = digest([photo.content, mask_digest, photo.turn, extractor.fingerprint])
            return key, photo, None if store.key(name) == key else content(photo), mask
        except TpsfmError as error:
            return error


def _file_content(photo: Photo) -> bytes:
    assert photo.path is not None
    try:
        return photo.path.read_bytes()
    except OSError as error:
        raise TpsfmError(f"cannot read image {photo.path}: {error.strerror or error}") from error

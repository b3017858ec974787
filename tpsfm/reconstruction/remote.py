"""What the workers of a cluster do: features of photos that come as the bytes of their files, and matches of pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.features.base import Extractor, Features
from tpsfm.matching import Matcher
from tpsfm.photos import Photo

if TYPE_CHECKING:
    from tpsfm.reconstruction.features import Extraction
    from tpsfm.reconstruction.matching import Matching

Made = TypeVar("Made", Extractor, Matcher)


def extract(
    photos: Iterable[tuple[Photo, bytes, np.ndarray | None]], stage: Extraction, fingerprint: dict[str, Any]
) -> list[Features | TpsfmError]:
    """Features of photos, or what is wrong with one.

    Args:
        photos: record, content of the file and mask of each.
        stage, fingerprint: the options, and the extractor's fingerprint where the features are stored.

    Raises:
        TpsfmError: the extractor can't be made here, or is another: its weights differ.
    """
    import torch

    extractor = _extractor(stage)
    _check(extractor, fingerprint)
    torch.set_num_threads(1)  # a job each thread of the workers, as `in_parallel` has it
    return [_extract(extractor, *photo) for photo in photos]


def _extract(extractor: Extractor, photo: Photo, content: bytes, mask: np.ndarray | None) -> Features | TpsfmError:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(photo.name).name
        copy.write_bytes(content)
        try:
            pixels = replace(photo, path=copy).decode()
        except TpsfmError as error:
            return TpsfmError(str(error).replace(str(copy), photo.name))
    return features_of(extractor, photo, pixels, mask).packed()


def features_of(extractor: Extractor, photo: Photo, pixels: np.ndarray, mask: np.ndarray | None) -> Features:
    """Features of a decoded photo, seen as its record says."""
    from tpsfm.features.upright import upright_features

    return upright_features(extractor, pixels, mask, photo.orientation, photo.size, photo.turn)


def match(
    pairs: Iterable[tuple[Features, Features]],
    stage: Matching,
    extractor: type[Extractor],
    fingerprint: dict[str, Any],
) -> list[np.ndarray]:
    """Matches of pairs of packed features; what several pairs have in common is prepared once.

    Args:
        stage, extractor, fingerprint: the options, the features' class, and the matcher's fingerprint where the matches
            are stored.

    Raises:
        TpsfmError: the matcher can't be made here, or is another.
    """
    import torch

    from tpsfm.matching.screening import match_screened

    matcher = _matcher(stage, extractor)
    _check(matcher, fingerprint)
    torch.set_num_threads(1)
    prepared: dict[int, Features] = {}
    found = []
    for pair in pairs:
        for one in pair:
            if id(one) not in prepared:
                prepared[id(one)] = matcher.prepare(one.unpacked())
        first, second = (prepared[id(one)] for one in pair)
        found.append(match_screened(matcher, first, second, stage.screening_keypoints))
    return found


@lru_cache(1)
def _extractor(stage: Extraction) -> Extractor:
    return stage.extractor()


@lru_cache(1)
def _matcher(stage: Matching, extractor: type[Extractor]) -> Matcher:
    return stage.create_matcher(extractor)


def _check(made: Made, fingerprint: dict[str, Any]) -> None:
    if made.fingerprint != fingerprint:
        differ = sorted(key for key in fingerprint if made.fingerprint.get(key) != fingerprint[key])
        raise TpsfmError(f"{made.name} on a worker has other {', '.join(differ)} than here; give all workers the same")

"""What a run learns from, and what it is validated on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tpr.cameras import fixed_cameras, held_out_sites, site
from tpr.config import Config, ConfigError
from tpr.landmarks import Matched
from tpr.pairs import ViewPair
from tpr.photos import Photos, find_photos, split
from tpr.validation import hours_pairs, validation_pairs

MIN_PHOTOS = 12


@dataclass
class Data:
    """Photos in memory, and pairs of views of others.

    Attributes:
        folder: where the photos come from.
        photos: to learn from.
        pairs: of views of photos that were held out.
        digest: of which photos these are; a run is resumed with the same ones alone.
        hours: pairs of views of fixed cameras that were held out, if there are any.
        matched: pairs of the photos with the places of the landmarks that they share, if a map tells them.
    """

    folder: Path
    photos: Photos
    pairs: ViewPair
    digest: str
    hours: ViewPair | None = None
    matched: list[Matched] = field(default_factory=list)


def read_folder(folder: Path, config: Config, device: torch.device) -> Data:
    """All photos below a folder, some of them set aside for validation.

    Raises:
        ConfigError: there are too few, or none of a fixed camera though `config.cameras` says how to find them.
    """
    paths = find_photos(folder)
    cameras = fixed_cameras(paths, config.cameras)
    if config.cameras and not cameras:
        raise ConfigError(f"cameras='{config.cameras}': found in no path of a photo below {folder}")
    sites = held_out_sites(cameras, config.validation.sites)
    elsewhere = {path for path, camera in cameras.items() if site(camera) in sites}
    train, held_out = split([path for path in paths if path not in elsewhere], folder, config.validation.share)
    photos = Photos(train, device=device, cameras=cameras)
    validation = Photos(held_out, device=device)
    good = len(photos) + len(validation)
    if good < MIN_PHOTOS or not len(validation):
        skipped = len(paths) - good
        raise ConfigError(
            f"{folder}: {good} usable photos ({skipped} skipped) are too few; give at least {MIN_PHOTOS}, "
            "50 are a good start"
        )
    names = "\n".join(path.relative_to(folder).as_posix() for path in photos.paths)
    digest = hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
    pairs = validation_pairs(validation, config.validation.size, config.validation.pairs)
    unseen = Photos(sorted(elsewhere), device=device, cameras=cameras)
    return Data(
        folder, photos, pairs, digest, hours_pairs(unseen, config.validation.hours_size, config.validation.hours)
    )

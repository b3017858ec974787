"""The photos that are learned from: found, decoded once, kept in memory, split into training and validation."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

log = logging.getLogger("tpr")

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}


def find_photos(folder: str | Path) -> list[Path]:
    """All photos below a folder, sorted."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)


def is_validation(path: Path, folder: Path, share: float) -> bool:
    """Whether a photo is held out: decided by a hash of its name, so a grown folder keeps its split."""
    name = path.relative_to(folder).as_posix()
    return int(hashlib.blake2b(name.encode(), digest_size=4).hexdigest(), 16) < share * 2**32


class Photos:
    """Photos in memory as uint8 [3, H, W] tensors, each with its half- and quarter-size copies.

    `texture[i]` is a coarse map [h, w] of how much there is to see in each part of photo i; views are centred by it.

    Args:
        paths: the image files; one that can't be decoded or is smaller than `min_size` is skipped and named.
        max_size: the longer side is reduced to it.
        min_size: the least shorter side, in pixels.
        device: where they are kept.
    """

    def __init__(self, paths: list[Path], max_size: int = 640, min_size: int = 160, device: str = "cpu"):
        self.paths: list[Path] = []
        self.levels: list[list[Tensor]] = []
        self.texture: list[Tensor] = []
        self.skipped: list[Path] = []
        for path in paths:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None or min(image.shape[:2]) < min_size:
                log.warning("%s: skipped, it can't be read or is smaller than %d px", path, min_size)
                self.skipped.append(path)
                continue
            self.paths.append(path)
            levels = pyramid(image, max_size)
            self.levels.append([torch.from_numpy(x).to(device) for x in levels])
            self.texture.append(torch.from_numpy(texture(levels[-1])))

    def __len__(self) -> int:
        return len(self.paths)


def pyramid(image: np.ndarray, max_size: int, levels: int = 3) -> list[np.ndarray]:
    """An image [H, W, 3] and its halvings, each [3, h, w], the first at most `max_size` on its longer side."""
    scale = max_size / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    out = [image]
    while len(out) < levels:
        height, width = out[-1].shape[:2]
        even = out[-1][: height // 2 * 2, : width // 2 * 2]
        out.append(cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return [np.ascontiguousarray(x.transpose(2, 0, 1)) for x in out]


def texture(image: np.ndarray, cell: int = 8, least: float = 0.02) -> np.ndarray:
    """Root of the mean gradient in each cell of uint8 [3, H, W], at least `least`: float32 [H / cell, W / cell]."""
    grey = image.mean(0, dtype=np.float32) / 255
    gradient = np.hypot(*np.gradient(grey))
    height, width = (max(side // cell, 1) for side in grey.shape)
    mean = cv2.resize(gradient, (width, height), interpolation=cv2.INTER_AREA)
    return np.maximum(np.sqrt(mean), least).astype(np.float32)

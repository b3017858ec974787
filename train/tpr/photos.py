"""Training photos: found, decoded once, kept in memory, split into training and validation.

Every process keeps them all: some thousands of photos of 640 px, as here, take 1.2 MB each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tpr.cameras import groups
from tpr.randomness import hashed

log = logging.getLogger("tpr")

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}


def find_photos(folder: str | Path) -> list[Path]:
    """All photos below a folder, sorted."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)


def split(paths: list[Path], folder: Path, share: float, least: int = 4) -> tuple[list[Path], list[Path]]:
    """Photos to train on and photos held out, of these at least `least`.

    Decided by a hash of a photo's name, so a grown folder keeps its split.
    """
    number = {path: hashed(path.relative_to(folder).as_posix()) for path in paths}
    ranked = sorted(paths, key=number.__getitem__)
    held_out = {path for i, path in enumerate(ranked) if i < least or number[path] < share}
    return [path for path in paths if path not in held_out], sorted(held_out)


class Photos:
    """Photos in memory as uint8 [3, H, W] tensors (red, green, blue), each with its half- and quarter-size copies.

    Args:
        paths: the image files; one that can't be decoded or is smaller than `min_size` is skipped and named.
        max_size: the longer side is reduced to it.
        min_size: the least shorter side, in pixels.
        device: where they are kept.
        cameras: the fixed camera of each photo that has one.
        read: gives the pixels of a file and their scale, as `read_reduced` does.

    Attributes:
        paths, levels: file and pyramid of each photo.
        scales: kept size over original size of each.
        texture: a coarse map [h, w] of how much there is to see in each part of each; views are centred by it.
        interest: [len] its mean over each photo.
        cameras: places of the photos of one fixed camera, a list a camera.
        skipped: the files left out.
    """

    def __init__(
        self,
        paths: list[Path],
        max_size: int = 640,
        min_size: int = 160,
        device: str | torch.device = "cpu",
        cameras: dict[Path, str] | None = None,
        read: Callable[[Path, int], tuple[np.ndarray, float]] | None = None,
    ):
        self.device = torch.device(device)
        self.paths: list[Path] = []
        self.levels: list[list[Tensor]] = []
        self.scales: list[float] = []
        self.texture: list[Tensor] = []
        self.skipped: list[Path] = []

        def load(path: Path) -> tuple[list[np.ndarray], float]:
            image, scale = (read or read_reduced)(path, max_size)
            return pyramid(image), scale

        with ThreadPoolExecutor() as threads:
            loading = [threads.submit(load, path) for path in paths]
        for path, loaded in zip(paths, loading, strict=True):
            try:
                levels, scale = loaded.result()
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                self.skip(path, f"it can't be read ({str(error).splitlines()[0]})")
                continue
            if min(levels[0].shape[1:]) < min_size:
                self.skip(path, f"its shorter side is below {min_size} px")
                continue
            self.paths.append(path)
            self.scales.append(scale)
            self.levels.append([torch.from_numpy(x).to(device) for x in levels])
            self.texture.append(torch.from_numpy(texture(levels[-1])))
        self.interest = torch.stack([t.mean() for t in self.texture]) if self.texture else torch.zeros(0)
        self.cameras = groups(self.paths, [tuple(x[0].shape) for x in self.levels], cameras or {})

    def skip(self, path: Path, reason: str) -> None:
        """Leave a photo out and say why."""
        log.warning("%s: skipped, %s", path, reason)
        self.skipped.append(path)

    def __len__(self) -> int:
        return len(self.paths)


def read_reduced(path: Path, max_size: int) -> tuple[np.ndarray, float]:
    """An upright image as uint8 [H, W, 3], at most `max_size` on its longer side, and by what factor it was reduced."""
    with Image.open(path) as file:
        longer = max(file.size)
        file.draft("RGB", (max_size, max_size))
        upright = ImageOps.exif_transpose(file)
        if upright.mode.startswith("I"):
            upright = Image.fromarray((np.asarray(upright).clip(0, 65535) >> 8).astype(np.uint8))
        image = np.asarray(upright.convert("RGB"))
    scale = max_size / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return image, max(image.shape[:2]) / longer


def pyramid(image: np.ndarray, levels: int = 3) -> list[np.ndarray]:
    """An image [H, W, 3] and its halvings, each [3, h, w]."""
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

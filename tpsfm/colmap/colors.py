"""Colours of a map's points, from the photos as tpsfm decodes them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tpsfm.colmap.reader import read_observations, replace_colors
from tpsfm.errors import TpsfmError
from tpsfm.geometry import rescale_points
from tpsfm.parallel import in_parallel
from tpsfm.photos import read_photo


def color_points(folder: Path, images: Path, threads: int) -> None:
    """Give each point of the model in `folder` the mean colour of the pixels that show it.

    Points that only photos show which are gone or can't be read stay black. COLMAP can't read all the formats that
    tpsfm reads, and takes mirrored photos as they are stored.

    Args:
        images: the image folder.
        threads: -1 for all cores.
    """
    threads = threads if threads > 0 else os.cpu_count() or 1
    seen = read_observations(folder)
    count = 1 + max((rows.max(initial=-1) for _, rows in seen.values()), default=-1)
    sums, views = np.zeros((count, 3)), np.zeros(count)
    jobs = ((name, (images / name, keypoints[rows >= 0])) for name, (keypoints, rows) in seen.items())
    for name, colors in in_parallel(_colors_at, jobs, threads):
        if colors is not None:
            rows = seen[name][1][seen[name][1] >= 0]
            np.add.at(sums, rows, colors)
            np.add.at(views, rows, 1)
    replace_colors(folder, np.rint(sums / np.maximum(views, 1)[:, None]).astype(np.uint8))


def _colors_at(path: Path, keypoints: np.ndarray) -> np.ndarray | None:
    """uint8 [N, 3] of the pixels nearest to keypoints [N, 2] of a photo; None where it can't be read."""
    try:
        photo = read_photo(path)
        pixels = photo.decode()
    except TpsfmError:
        return None
    height, width = pixels.shape[:2]
    nearest = np.rint(rescale_points(keypoints, np.array([width, height]) / np.array(photo.size)))
    x, y = nearest.astype(int).clip(0, [width - 1, height - 1]).T
    colors = pixels[y, x]
    return colors if colors.ndim == 2 else np.repeat(colors[:, None], 3, axis=1)

"""Photos that the tests render themselves."""

import cv2
import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Beside the one that draws views."""
    torch.set_num_threads(1)


def render_photo(seed: int, width: int = 260, height: int = 220) -> np.ndarray:
    """A cluttered picture: smooth noise of several scales, polygons, discs and letters; uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        noise = rng.random((cells, cells, 3), dtype=np.float32) / cells**0.3
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    image = (image / image.max() * 255).clip(0, 255).astype(np.uint8)
    for _ in range(40):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        centre = rng.integers(0, (width, height))
        corners = centre + rng.integers(-28, 29, (int(rng.integers(3, 6)), 2))
        kind = rng.integers(3)
        if kind == 0:
            cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(image, tuple(int(c) for c in centre), int(rng.integers(3, 14)), colour, -1, cv2.LINE_AA)
        else:
            letter = chr(int(rng.integers(65, 91)))
            size = float(rng.uniform(0.6, 2.2))
            cv2.putText(image, letter, tuple(int(c) for c in centre), 0, size, colour, 2, cv2.LINE_AA)
    return image


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """50 rendered photos."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(50):
        cv2.imwrite(str(folder / f"{seed:02}.png"), render_photo(seed))
    return folder

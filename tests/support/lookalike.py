"""Rendered photos of two facades that are alike, with unlike surroundings, far from each other."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tpsfm.demo.dataset import write_photo, write_truth
from tpsfm.demo.rendering import Quad, Surface, View, draw, look_at

SIZE = (480, 360)
APART = np.array([200.0, 0.0, 0.0])
X, Z = np.eye(3)[0], np.eye(3)[2]


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]: noise of several sizes with sharp-edged patches, rich in corners."""
    image = np.zeros((height, width, 3), np.float32)
    for size in (4, 8, 16, 40):
        noise = rng.uniform(-1, 1, (height // size + 1, width // size + 1, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST) * (12 + size)
    return np.clip(128 + image, 0, 255).astype(np.uint8)


def board(seed: int, corner: np.ndarray, width: float, height: float, scale: float = 40) -> Surface:
    """An upright textured board from its lower left corner, seen from the front (-y)."""
    rng = np.random.default_rng(seed)
    pixels = texture(rng, round(height * scale), round(width * scale))
    pyramid = [pixels]
    while min(pyramid[-1].shape[:2]) > 16:
        pyramid.append(cv2.resize(pyramid[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    shape = pixels.shape[:2]
    quad = Quad(
        corner + height * Z, width * X, -height * Z, np.zeros((*shape, 3), np.float32), np.zeros(shape), None, True
    )
    return Surface(quad, pyramid, None)


def facade(at: np.ndarray) -> Iterator[Surface]:
    """The same wherever it stands: a wall of 8 x 6 metres with bays before it."""
    yield board(1, at + np.array([-4, 0, 0]), 8, 6)
    for number, x in enumerate((-3.4, -0.8, 1.8)):
        yield board(10 + number, at + np.array([x, -0.8, 0.5 + number]), 1.6, 2.5)


def surroundings(at: np.ndarray, seed: int) -> Iterator[Surface]:
    """What stands beside the facade, of its own kind at each place."""
    for number, (x, y, width) in enumerate(((-11, 0.5, 6.5), (4.5, -0.4, 6.5), (-8, -1.2, 2.5), (6, -1.5, 2))):
        yield board(100 * seed + number, at + np.array([x, y, 0]), width, 4 + number % 2)


def walk(at: np.ndarray, count: int) -> list[View]:
    """Cameras on an arc before a place."""
    focal = 0.8 * SIZE[0]
    intrinsics = np.array([[focal, 0, (SIZE[0] - 1) / 2], [0, focal, (SIZE[1] - 1) / 2], [0, 0, 1]])
    views = []
    for angle in np.linspace(-0.45, 0.45, count):
        centre = at + np.array([11 * np.sin(angle), -11 * np.cos(angle), 1.7 + 0.5 * np.cos(7 * angle)])
        views.append(View(intrinsics, look_at(centre, at + np.array([0.5 * np.sin(9 * angle), 0, 2.8])), centre, SIZE))
    return views


def render(folder: Path, count: int = 5, alike: bool = True) -> None:
    """Write photos a0.jpg ... of the one place and b0.jpg ... of the other to `folder`/images, and gt.json.

    Args:
        alike: False puts another facade at the second place.
    """
    (folder / "images").mkdir(parents=True)
    rng, cameras = np.random.default_rng(0), {}
    for place, (letter, at) in enumerate((("a", np.zeros(3)), ("b", APART)), 1):
        surfaces = [*facade(at), *surroundings(at, place)] if alike or place == 1 else [*surroundings(at, place)]
        for number, view in enumerate(walk(at + 0.3 * (place - 1) * X, count)):
            large = View(np.diag([2, 2, 1.0]) @ view.K, view.R, view.C, (2 * SIZE[0], 2 * SIZE[1]))
            image, depth = draw(surfaces, large)
            image[depth == 0] = 200
            image = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA) + rng.normal(0, 1.5, (SIZE[1], SIZE[0], 3))
            cameras[f"{letter}{number}.jpg"] = view
            write_photo(folder / "images" / f"{letter}{number}.jpg", np.clip(image, 0, 255).astype(np.uint8))
    write_truth(folder / "gt.json", cameras)

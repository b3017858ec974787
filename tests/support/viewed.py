"""A small map to look at, and what colours a picture of it has."""

from pathlib import Path

import numpy as np
from PIL import Image

from tpsfm.demo.rendering import look_at
from tpsfm.geometry import Camera, Model, Pose

GREEN, MAGENTA = (40, 220, 90), (230, 30, 220)


def make_model(photos=8, points=3000, seed=0):
    """A green ball seen by photos in an arc around it; z is up."""
    rng = np.random.default_rng(seed)
    ball = rng.normal(size=(points, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    images = {}
    for i, angle in enumerate(np.radians(np.linspace(-60, 60, photos))):
        centre = 4 * np.array([np.sin(angle), -np.cos(angle), 0.25])
        rotation = look_at(centre, np.zeros(3))
        images[f"photo {i}.jpg"] = Pose(1, rotation, -rotation @ centre, observations=100 + i)
    camera = Camera("SIMPLE_RADIAL", 640, 480, [500.0, 320, 240, 0.01])
    colors = np.tile(np.array(GREEN, np.uint8), (points, 1))
    errors = rng.uniform(0, 1, points).astype(np.float32)
    return Model({1: camera}, images, ball, colors, errors, rng.integers(2, 9, points).astype(np.int32))


def empty_model():
    none = np.zeros(0)
    return Model({}, {}, np.zeros((0, 3)), np.zeros((0, 3), np.uint8), none.astype(np.float32), none.astype(np.int32))


def near(picture, color, tolerance=30):
    """bool [H, W], where a picture has about that colour."""
    return np.abs(picture.astype(int) - color).max(-1) <= tolerance


def save_photos(model: Model, folder: Path) -> Path:
    """Write the model's photos, plain magenta; the last one is missing."""
    for name in list(model.images)[:-1]:
        Image.new("RGB", (640, 480), MAGENTA).save(folder / name)
    return folder

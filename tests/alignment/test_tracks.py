"""Tracks of a rendered scene whose true projections are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tpsfm.alignment.patches import smoothed
from tpsfm.alignment.tracks import Tracks, align_tracks
from tpsfm.demo.materials import plaster
from tpsfm.demo.rendering import Quad, View, draw, light, look_at

SIZE, FINE = (480, 360), 4
K = np.array([[420.0, 0, 239.5], [0, 420.0, 179.5], [0, 0, 1]])
WALL = 6.0  # metres from the cameras' line; the board hangs before it
BOARD = ((-0.8, 0.8), (0.4, 2.0), 4.5)  # x, z, y


class Rendered:
    """A view of the scene as `align_tracks` wants it."""

    def __init__(self, view: View, image: np.ndarray | None) -> None:
        self.center, self.view, self.image = view.C, view, image

    def project(self, points: np.ndarray) -> np.ndarray:
        return self.view.project(points)[:, :2]

    def read(self) -> torch.Tensor | None:
        return None if self.image is None else smoothed(self.image)


def quad(rng, left: float, right: float, bottom: float, top: float, y: float, scale: float) -> Quad:
    across, down = np.array([right - left, 0.0, 0]), np.array([0, 0, bottom - top])
    albedo, relief = plaster(rng, round((top - bottom) * scale), round((right - left) * scale), scale)
    albedo = cv2.GaussianBlur(albedo * rng.gamma(1.0, 1.0, (*relief.shape, 1)).astype(np.float32), (0, 0), 1.5)
    return Quad(np.array([left, y, top]), across, down, albedo.clip(0.02, 0.95), 0 * relief)


@pytest.fixture(scope="module")
def views() -> list[View]:
    centres = [np.array([x, 0.2 * abs(x), 1.2 + 0.1 * x]) for x in (-1.5, -0.7, 0.1, 0.9, 1.6)]
    return [View(K, look_at(c, np.array([0.1 * c[0], WALL, 1.2]), 0.05 * c[0]), c, SIZE) for c in centres]


@pytest.fixture(scope="module")
def photos(views) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    (left, right), (bottom, top), y = BOARD
    quads = [quad(rng, -5, 5, -2, 4.5, WALL, 90.0), quad(rng, left, right, bottom, top, y, 120.0)]
    surfaces = light(quads, np.array([0.3, -0.9, 0.3]), 6.0, np.array([0, WALL, 1.0]))
    images = []
    for view in views:
        fine = np.diag([FINE, FINE, 1.0]) @ view.K
        fine[:2, 2] += (FINE - 1) / 2
        large = draw(surfaces, View(fine, view.R, view.C, (FINE * SIZE[0], FINE * SIZE[1])))[0]
        image = cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA).astype(float)
        images.append((image + rng.normal(0, 1, image.shape)).clip(0, 255).astype(np.uint8))
    return images


def tracks_of(points: np.ndarray, views: list[View], noise: float) -> Tracks:
    """Observations of points in all views that show them, displaced at random."""
    rng = np.random.default_rng(3)
    point, image, keypoints = [], [], []
    for v, view in enumerate(views):
        pixels = view.project(points)[:, :2]
        shown = ((pixels > 12) & (pixels < np.array(SIZE) - 13)).all(1)
        point.append(np.flatnonzero(shown))
        image.append(np.full(shown.sum(), v))
        keypoints.append(pixels[shown] + rng.normal(0, noise, (shown.sum(), 2)).clip(-1.5, 1.5))
    return Tracks(points, np.concatenate(point), np.concatenate(image), np.concatenate(keypoints))


def on_plane(y: float, view: View, pixels: np.ndarray) -> np.ndarray:
    """The points of a plane at a distance that pixels [N, 2] of a view show."""
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(view.K).T @ view.R
    return view.C + rays * ((y - view.C[1]) / rays[:, 1])[:, None]


def errors(tracks: Tracks, aligned, patches, views: list[View], y: float) -> np.ndarray:
    """How far each moved observation is from the true projection of what its reference shows, pixels [M]."""
    moved = tracks.keypoints + aligned.displacement
    shown = np.empty((len(tracks.points), 3))
    for p, row in enumerate(patches.reference):
        shown[p] = on_plane(y, views[tracks.image[row]], tracks.keypoints[row][None])[0]
    truth = np.array([views[v].project(shown[p])[:2] for p, v in zip(tracks.point, tracks.image, strict=True)])
    return np.linalg.norm(moved - truth, axis=1)


def wall_points(count: int = 400) -> np.ndarray:
    """Points of the wall that the board hides from no view."""
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-3, 3, count), np.full(count, WALL), rng.uniform(-0.6, 3, count)])
    hidden = (np.abs(points[:, 0]) < 2.2) & (points[:, 2] > 0.0) & (points[:, 2] < 2.6)
    return points[~hidden]


def test_observations_are_moved_to_where_they_belong(views, photos):
    tracks = tracks_of(wall_points(), views, 0.6)
    steps = []
    aligned, patches = align_tracks(
        tracks, [Rendered(*both) for both in zip(views, photos, strict=True)], lambda *s: steps.append(s)
    )
    moved = aligned.found & (aligned.displacement != 0).any(1)
    assert aligned.tried.all() and aligned.found.mean() > 0.9
    error = errors(tracks, aligned, patches, views, WALL)[moved]
    before = errors(tracks, type(aligned)(0 * aligned.displacement, *([aligned.zncc] * 3)), patches, views, WALL)[moved]
    assert np.median(before) > 0.7
    assert np.median(error) < 0.05 and np.quantile(error, 0.9) < 0.12
    assert steps[-1] == (10, 10)


def test_patches_at_a_depth_edge_are_refused(views, photos):
    """Points of the wall and the board alike, a pixel or two from the board's left and right edges."""
    (left, right), (bottom, top), y = BOARD
    heights = np.linspace(bottom + 0.15, top - 0.15, 40)
    reference = views[2]
    edge = np.vstack(
        [reference.project(np.column_stack([np.full(40, x), np.full(40, y), heights]))[:, :2] for x in (left, right)]
    )
    outwards = np.repeat([[-1.0, 0], [1.0, 0]], 40, axis=0)
    behind = on_plane(WALL, reference, edge + 1.5 * outwards)
    views = views[1:4]
    aligned, patches = align_tracks(
        tracks_of(behind, views, 0.3), [Rendered(*both) for both in zip(views, photos[1:4], strict=True)]
    )
    moved = np.ones(len(aligned.found), bool)
    moved[patches.reference] = False
    assert aligned.found[moved].mean() < 0.1


@pytest.mark.parametrize("gone", [0, 2])
def test_a_photo_that_is_gone_is_passed_over(views, photos, gone):
    tracks = tracks_of(wall_points(100), views, 0.6)
    there = [Rendered(view, None if v == gone else photos[v]) for v, view in enumerate(views)]
    aligned, patches = align_tracks(tracks, there)
    unread = tracks.image == gone
    assert not aligned.tried[unread].any() and not aligned.displacement[unread].any()
    lost = patches.reference < 0
    assert lost.any() == (gone == 2)  # the middle view is the reference of most
    assert not aligned.tried[lost[tracks.point]].any()
    tried = aligned.tried & ~lost[tracks.point]
    assert not tried.any() or aligned.found[tried].mean() > 0.9

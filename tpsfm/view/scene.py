"""What every viewer shows of a map: its points, the photos' frustums, and a first viewpoint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tpsfm.geometry import Camera, Model, Pose

Viewpoint = tuple[np.ndarray, np.ndarray, np.ndarray]  # eye, target and up, float64 [3] each

PHOTO_COLOR, QUERY_COLOR, BACKGROUND = (255, 148, 40), (64, 200, 255), (18, 21, 27)
REACH = (0.62, 0.4)  # tangents of half the field of view that an overview fills, across and down
# Of a frustum's five corners: the apex, then the image's four in reading order, clockwise from the top left.
EDGES = np.array([(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)])


@dataclass(frozen=True)
class Scene:
    """The drawable parts of a map.

    Attributes:
        points: float32 [P, 3], without far outliers; a random subset if there are more than the caller's limit.
        colors: uint8 [P, 3], RGB.
        names: the F photos, the map's own first, then queries.
        frustums: float32 [F, 5, 3], corners in the world: the apex, then the image's four, clockwise from the
            top left.
        frustum_colors: uint8 [F, 3].
        size: a frustum's depth in the map's unit.
        up: float64 [3], unit, the estimated vertical.
    """

    points: np.ndarray
    colors: np.ndarray
    names: list[str]
    frustums: np.ndarray
    frustum_colors: np.ndarray
    size: float
    up: np.ndarray

    @cached_property
    def overview(self) -> Viewpoint:
        """The viewpoint behind and above the photos from which everything is in view."""
        back = self._back
        side = np.cross(self.up, back)
        azimuth, elevation = np.radians(22), np.radians(27)
        level = np.cos(azimuth) * back + np.sin(azimuth) * side
        return self._fitting(np.cos(elevation) * level + np.sin(elevation) * self.up, self.up)

    @cached_property
    def from_above(self) -> Viewpoint:
        """The viewpoint straight above; the photos' mean viewing direction points to the top of the picture."""
        return self._fitting(self.up, -self._back)

    @cached_property
    def _back(self) -> np.ndarray:
        """float64 [3], unit, horizontal: opposite to the photos' mean viewing direction."""
        back = -_axes(self.frustums)[:, 2].sum(0) if len(self.frustums) else np.zeros(3)
        back -= (back @ self.up) * self.up
        if np.linalg.norm(back) < 0.2 * len(self.frustums) or not back.any():
            back = np.linalg.svd(np.outer(self.up, self.up))[2][1]  # photos look in all directions: any side will do
        return back / np.linalg.norm(back)

    def _fitting(self, direction: np.ndarray, up: np.ndarray) -> Viewpoint:
        """The viewpoint in a unit `direction` from which everything is in view."""
        everything = np.concatenate([self.points, self.frustums[:, 0]]).astype(np.float64)
        if not len(everything):
            return direction, np.zeros(3), up
        low, high = np.percentile(everything, (1, 99), axis=0)
        target = np.clip(everything, low, high).mean(0)
        basis = view_rotation(direction, np.zeros(3), up)
        inside = ((everything >= low) & (everything <= high)).all(1)
        shown = np.concatenate([everything[inside], self.frustums.reshape(-1, 3)])
        for _ in range(4):  # centre what is shown, then step back until it fits
            x, y, z = basis @ (shown - target).T
            distance = max(float((np.maximum(np.abs(x) / REACH[0], np.abs(y) / REACH[1]) - z).max()), 1e-6)
            x, y = x / (z + distance), y / (z + distance)
            target = target + distance / 2 * ((x.min() + x.max()) * basis[0] + (y.min() + y.max()) * basis[1])
        return target + 1.06 * distance * direction, target, up


def scene_of(model: Model, queries: Model | None = None, max_points: int = 1_000_000, level: bool = False) -> Scene:
    """The drawable scene of a map.

    Args:
        queries: localized photos, as a model in the same frame.
        max_points: a random subset of so many points is taken where there are more.
        level: whether the map's third axis is known to be up; else the photos tell.
    """
    photos = [(name, pose, model, PHOTO_COLOR) for name, pose in model.images.items()]
    if queries is not None:
        photos += [(name, pose, queries, QUERY_COLOR) for name, pose in queries.images.items()]
    centers = np.array([pose.center for _, pose, _, _ in photos]).reshape(-1, 3)
    points, colors = _without_outliers(model, centers)
    if len(points) > max_points:
        chosen = np.sort(np.random.default_rng(0).choice(len(points), max_points, replace=False))
        points, colors = points[chosen], colors[chosen]
    size = _frustum_size(points, centers)
    corners = [_frustum(pose, source.cameras[pose.camera_id], size) for _, pose, source, _ in photos]
    frustums = np.array(corners, np.float32).reshape(-1, 5, 3)
    frustum_colors = np.array([color for *_, color in photos], np.uint8).reshape(-1, 3)
    names = [name for name, *_ in photos]
    up = np.array([0.0, 0.0, 1.0]) if level else _vertical(frustums)
    return Scene(points.astype(np.float32), colors, names, frustums, frustum_colors, size, up)


def view_rotation(eye: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """float64 [3, 3], world to a camera (x right, y down, z forward) at `eye` that looks at `target`."""
    forward = np.asarray(target, float) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def _without_outliers(model: Model, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points no farther from the middle than the bulk of points and photos, and their colours."""
    points = model.points
    if len(points) < 20:
        return points, model.colors
    middle = np.median(points, 0)
    distance = np.linalg.norm(points - middle, axis=1)
    reach = 3 * np.percentile(distance, 90)
    if len(centers):
        reach = max(reach, 1.2 * np.linalg.norm(centers - middle, axis=1).max())
    keep = distance <= reach
    return points[keep], model.colors[keep]


def _frustum_size(points: np.ndarray, centers: np.ndarray) -> float:
    """A frustum depth that neither hides the map nor gets lost in it: from its extent and the photos' spacing."""
    everything = np.concatenate([points, centers])
    if len(everything) < 2:
        return 0.1
    extent = np.linalg.norm(np.subtract(*np.percentile(everything, (95, 5), axis=0)))
    size = 0.05 * extent
    if len(centers) > 1:
        step = np.median(np.linalg.norm(np.diff(centers, axis=0), axis=1))
        size = np.clip(0.7 * step, 0.3 * size, size)
    return float(size) or 0.1


def _frustum(pose: Pose, camera: Camera, size: float) -> np.ndarray:
    """float64 [5, 3], the corners in the world."""
    width, height = camera.width, camera.height
    corners = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)])
    rays = np.column_stack([corners, np.ones(4)]) @ np.linalg.inv(camera.matrix).T
    return pose.center + size * np.vstack([np.zeros(3), rays]) @ pose.rotation


def _axes(frustums: np.ndarray) -> np.ndarray:
    """float64 [F, 3, 3]: each camera's unit x (right), y (down) and z (forward) in the world."""
    apex, top_left, top_right, bottom_right, bottom_left = frustums.astype(np.float64).transpose(1, 0, 2)
    forward = (top_left + top_right + bottom_right + bottom_left) / 4 - apex
    axes = np.stack([top_right - top_left, bottom_left - top_left, forward], 1)
    length = np.linalg.norm(axes, axis=2, keepdims=True)
    return axes / np.maximum(length, 1e-9)  # zero length where a focal length has diverged


def _vertical(frustums: np.ndarray) -> np.ndarray:
    """Estimate the up vector, allowing 90° roll: perpendicular to the photos' x axes, opposite to their y axes.

    Where these tell little, as from a drone or a kite, the photos look down rather than up.
    """
    if not len(frustums):
        return np.array([0.0, -1.0, 0.0])
    right, down, forward = _axes(frustums).transpose(1, 0, 2)
    rights, downs = np.stack([right, down, -right, -down]), np.stack([down, -right, -down, right])
    ups = -downs.reshape(-1, 3)
    agreement = (-downs @ ups.T).max(0).mean(0) - 0.5 * ups @ down.mean(0)  # prefer upright photos
    turn = (-downs @ ups[agreement.argmax()]).argmax(0)
    right, down = rights[turn, np.arange(len(turn))], downs[turn, np.arange(len(turn))]
    mean = -down.mean(0)
    spread = right.T @ right / len(right) - 0.01 * np.outer(mean, mean)
    up = np.linalg.eigh(spread)[1][:, 0]
    return up if up @ (mean - 0.5 * forward.mean(0)) >= 0 else -up

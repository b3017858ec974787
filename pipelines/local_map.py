"""The local map of visual odometry: the points seen by the last keyframes, from which the next frame gets its pose."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from tpsfm.alignment.tracks import Tracks, align_tracks
from tpsfm.colmap.adjustment import adjust
from tpsfm.geometry import Camera

WINDOW = 8  # keyframes that are adjusted together
DETECTED, ALIGNED = 2.0, 1.0  # pixels of reprojection error that an inlier has, by how its keypoints were found
RADIUS = 10.0  # pixels round a projected point where it is searched for
MIN_ANGLE = np.radians(1.0)  # between the rays to a new point
MIN_INLIERS = 12  # of PnP


@dataclass
class Frame:
    """A frame: keypoints [N, 2], descriptors [N, D], and the number [N] of each keypoint's track.

    `pose` is float64 [3, 4], world to camera; None until it is known. `image` holds the pixels that keypoints are
    aligned by, see `tpsfm.alignment.patches.smoothed`.
    """

    keypoints: np.ndarray
    descriptors: np.ndarray
    tracks: np.ndarray
    pose: np.ndarray | None = None
    image: torch.Tensor | None = None

    @property
    def known_pose(self) -> np.ndarray:
        """`pose` of a frame that has one, as all keyframes do."""
        assert self.pose is not None
        return self.pose


@dataclass(frozen=True)
class KeyframeView:
    """A keyframe as `align_tracks` wants it; `matrix` is its camera's."""

    frame: Frame
    matrix: np.ndarray

    @property
    def center(self) -> np.ndarray:
        """float64 [3], the projection centre in the world."""
        return center(self.frame.known_pose)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of points [N, 3]; nan behind the camera."""
        pose = self.frame.known_pose
        return np.where(_depth(pose, points)[:, None] > 0, _project(self.matrix, pose, points), np.nan)

    def read(self) -> torch.Tensor | None:
        """The frame's image."""
        return self.frame.image


class LocalMap:
    """The points by track number, and the keyframes that are bundle-adjusted with them.

    Attributes:
        camera, matrix: a pinhole camera with known intrinsics, and its matrix.
        aligned: whether keyframes' keypoints are aligned; they need their images then.
        pixels: reprojection error of an inlier.
        points: float64 [3] by track.
        window: the last keyframes.
        keyframes: number of keyframes so far.
    """

    def __init__(self, camera: Camera, aligned: bool = False) -> None:
        self.camera, self.matrix = camera, camera.matrix
        self.aligned, self.pixels = aligned, ALIGNED if aligned else DETECTED
        self.points: dict[int, np.ndarray] = {}
        self.window: list[Frame] = []
        self.keyframes = 0
        self._tracks = 0

    def restart(self, *keyframes: Frame) -> None:
        """Forget all points and start from these keyframes."""
        self.points, self.window = {}, list(keyframes)

    def extend(self, frame: Frame) -> None:
        """Add a keyframe: triangulate its new points and adjust the window."""
        self.keyframes += 1
        self.window = [*self.window[-WINDOW + 1 :], frame]
        self.triangulate(frame)
        self.adjust()

    def fresh(self, count: int) -> np.ndarray:
        """New track numbers [count]."""
        self._tracks += count
        return np.arange(self._tracks - count, self._tracks)

    def known(self, frame: Frame) -> np.ndarray:
        """The keypoints [K] whose points are in the map."""
        return np.flatnonzero([track in self.points for track in frame.tracks])

    def pnp(self, frame: Frame, guess: np.ndarray) -> np.ndarray | None:
        """The pose from the points that the frame sees, or None; outliers leave their tracks."""
        known = self.known(frame)
        if len(known) < MIN_INLIERS:
            return None
        points, keypoints = self._positions(frame.tracks[known]), frame.keypoints[known]
        turn, shift = cv2.Rodrigues(guess[:, :3])[0], guess[:, 3:].copy()
        found, turn, shift, inliers = cv2.solvePnPRansac(
            points, keypoints, self.matrix, None, turn, shift, True, 200, self.pixels, 0.999
        )
        if not found or inliers is None or len(inliers) < MIN_INLIERS:
            return None
        own = inliers[:, 0]
        turn, shift = cv2.solvePnPRefineLM(points[own], keypoints[own], self.matrix, None, turn, shift)
        pose = np.c_[cv2.Rodrigues(turn)[0], shift]
        wrong = known[self._errors(pose, points, keypoints) > 2 * self.pixels]
        frame.tracks[wrong] = self.fresh(len(wrong))
        return pose

    def search(self, frame: Frame, similarities: np.ndarray) -> None:
        """Match the map's points near their projections; `similarities` [M] are those of the matches between frames."""
        held = set(frame.tracks.tolist())
        seen, described = [], []
        for keyframe in reversed(self.window):
            new = [row for row in self.known(keyframe) if keyframe.tracks[row] not in held]
            seen.append(keyframe.tracks[new])
            described.append(keyframe.descriptors[new])
            held.update(seen[-1].tolist())
        tracks, descriptors, pose = np.concatenate(seen), np.concatenate(described), frame.known_pose
        free = np.flatnonzero([track not in self.points for track in frame.tracks])
        points = self._positions(tracks)
        expected = np.where(_depth(pose, points)[:, None] > 0, self._project(pose, points), np.inf)
        keypoints = frame.keypoints[free]
        near = np.abs(expected[:, None, 0] - keypoints[None, :, 0]) < RADIUS
        point, keypoint = np.nonzero(near & (np.abs(expected[:, None, 1] - keypoints[None, :, 1]) < RADIUS))
        similarity = (descriptors[point] * frame.descriptors[free[keypoint]]).sum(1)
        order = np.argsort(-similarity, kind="stable")
        order = order[similarity[order] >= np.median(similarities)]
        first = np.zeros((2, len(order)), bool)  # whether it is the best match of its point, of its keypoint
        for row, side in zip(first, (point, keypoint), strict=True):
            row[np.unique(side[order], return_index=True)[1]] = True
        best = order[first.all(0)]
        frame.tracks[free[keypoint[best]]] = tracks[point[best]]

    def triangulate(self, frame: Frame) -> None:
        """Add the points seen by the frame and an earlier keyframe under a sufficient angle."""
        for keyframe in self.window[:-1]:
            tracks, i, j = np.intersect1d(keyframe.tracks, frame.tracks, return_indices=True)
            new = np.array([track not in self.points for track in tracks], bool)
            if not new.any():
                continue
            tracks, points0, points1 = tracks[new], keyframe.keypoints[i[new]], frame.keypoints[j[new]]
            poses = keyframe.known_pose, frame.known_pose
            found = cv2.triangulatePoints(self.matrix @ poses[0], self.matrix @ poses[1], points0.T, points1.T)
            with np.errstate(divide="ignore", invalid="ignore"):
                points = (found[:3] / found[3]).T
                rays = [points - center(pose) for pose in poses]
                cosine = (rays[0] * rays[1]).sum(1) / np.linalg.norm(rays[0], axis=1) / np.linalg.norm(rays[1], axis=1)
                good = (
                    (cosine < np.cos(MIN_ANGLE))
                    & (self._errors(poses[0], points, points0) < self.pixels)
                    & (self._errors(poses[1], points, points1) < self.pixels)
                )
            self.points.update(zip(tracks[good].tolist(), points[good], strict=True))

    def _align(self) -> None:
        """Move the keyframes' keypoints onto one patch of each point; those where it isn't found leave their tracks."""
        seen = [self.known(frame) for frame in self.window]
        tracks, point = np.unique(
            np.concatenate([f.tracks[rows] for f, rows in zip(self.window, seen, strict=True)]), return_inverse=True
        )
        ends = np.cumsum([len(rows) for rows in seen])
        aligned, _ = align_tracks(
            Tracks(
                self._positions(tracks),
                point,
                np.repeat(np.arange(len(seen)), [len(rows) for rows in seen]),
                np.concatenate([f.keypoints[rows] for f, rows in zip(self.window, seen, strict=True)]),
            ),
            [KeyframeView(frame, self.matrix) for frame in self.window],
        )
        for frame, rows, end in zip(self.window, seen, ends, strict=True):
            own = slice(end - len(rows), end)
            found = aligned.found[own]
            frame.keypoints[rows[found]] += aligned.displacement[own][found]
            lost = rows[aligned.tried[own] & ~found]
            frame.tracks[lost] = self.fresh(len(lost))

    def adjust(self) -> None:
        """Bundle-adjust the window; outliers leave their tracks, points that no keyframe sees leave the map."""
        if self.aligned:
            self._align()
        seen = [self.known(frame) for frame in self.window]
        all_tracks = np.concatenate([f.tracks[rows] for f, rows in zip(self.window, seen, strict=True)])
        tracks, index, counts = np.unique(all_tracks, return_inverse=True, return_counts=True)
        keep = counts > 1
        if keep.sum() < MIN_INLIERS:
            return
        views = np.repeat(np.arange(len(seen)), [len(rows) for rows in seen])[keep[index]]
        keypoints = np.concatenate([f.keypoints[rows] for f, rows in zip(self.window, seen, strict=True)])
        number = np.cumsum(keep) - 1
        poses, points = adjust(
            self.camera,
            np.stack([frame.known_pose for frame in self.window]),
            self._positions(tracks[keep]),
            views,
            number[index][keep[index]],
            keypoints[keep[index]],
            pixels=self.pixels / 2,
            fixed=1 if len(self.window) == self.keyframes else 2,  # fixing two cameras fixes the scale
        )
        for frame, pose in zip(self.window, poses, strict=True):
            frame.known_pose[:] = pose
        self.points = dict(zip(tracks[keep].tolist(), points, strict=True))
        for frame in self.window:
            known = self.known(frame)
            errors = self._errors(frame.known_pose, self._positions(frame.tracks[known]), frame.keypoints[known])
            wrong = known[errors > 2 * self.pixels]
            frame.tracks[wrong] = self.fresh(len(wrong))

    def _positions(self, tracks: np.ndarray) -> np.ndarray:
        return np.array([self.points[track] for track in tracks]).reshape(-1, 3)

    def _errors(self, pose: np.ndarray, points: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
        """Reprojection errors [N] in pixels; inf behind the camera."""
        error = np.linalg.norm(self._project(pose, points) - keypoints, axis=1)
        return np.where(_depth(pose, points) > 0, error, np.inf)

    def _project(self, pose: np.ndarray, points: np.ndarray) -> np.ndarray:
        return _project(self.matrix, pose, points)


def center(pose: np.ndarray) -> np.ndarray:
    """Where a camera [3, 4] is, [3]."""
    return -pose[:, :3].T @ pose[:, 3]


def _project(matrix: np.ndarray, pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    seen = (points @ pose[:, :3].T + pose[:, 3]) @ matrix.T
    return seen[:, :2] / seen[:, 2:]


def _depth(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ pose[2, :3] + pose[2, 3]

"""Visual odometry of one camera by local features: the path of a video's frames, up to one scale.

Each frame is matched to the one before; an essential matrix sorts the matches. What is already in the local map gives
the pose (PnP), and the map is then searched for what the matches missed. Frames that have moved on become keyframes:
new points are triangulated and the last keyframes adjusted together with their points, which carries the scale on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from tpsfm.colmap.adjustment import adjust
from tpsfm.features import Features
from tpsfm.matching import mutual_nearest
from tpsfm.model import Camera

WINDOW = 8  # keyframes that are adjusted together
PIXELS = 2.0  # reprojection error of an inlier
RADIUS = 10.0  # pixels round a projected point where it is searched for
MIN_ANGLE = np.radians(1.0)  # between the rays to a new point
MIN_FLOW = 0.01  # of the image's width, since the last keyframe
MIN_KNOWN = 0.85  # share of the last keyframe's points; fewer make a keyframe
MIN_POINTS = 30  # to begin a map
MIN_INLIERS = 12  # of PnP


@dataclass
class Frame:
    """A frame's keypoints [N, 2], descriptors [N, D], and the track [N] each belongs to.

    `pose` is float64 [3, 4], world to camera; None until it is known.
    """

    keypoints: np.ndarray
    descriptors: np.ndarray
    tracks: np.ndarray
    pose: np.ndarray | None = None


@dataclass
class Odometry:
    """Feed it frame after frame with `add`; `path()` is where the camera was.

    Args:
        camera: a pinhole, its intrinsics known.
        ratio: Lowe's ratio for the matches from frame to frame, or None.
        seed: of the estimators' random choices.
    """

    camera: Camera
    ratio: float | None = None
    seed: int = 0
    poses: list[np.ndarray | None] = field(default_factory=list, init=False)
    keyframes: int = field(default=0, init=False)
    lost: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._matrix = self.camera.matrix
        self._points: dict[int, np.ndarray] = {}  # by track
        self._window: list[Frame] = []
        self._waiting: list[Frame] = []  # frames before there is a map
        self._last: Frame | None = None
        self._next_track = 0
        cv2.setRNGSeed(self.seed)

    def add(self, features: Features) -> None:
        """Find the pose of the next frame."""
        frame = Frame(features.keypoints.astype(float), features.descriptors, self._fresh(len(features)))
        motion = self._follow(self._last, frame) if self._last else None
        if self._window:
            self._locate(frame, motion)
        else:
            self._begin(frame)
        self._last = frame
        self.poses.append(frame.pose)

    def path(self) -> np.ndarray:
        """float64 [N, 4, 4], camera to world: the first camera's frame, the scale arbitrary."""
        path, pose = [], np.eye(3, 4)
        for known in self.poses:
            pose = pose if known is None else known
            path.append(np.linalg.inv(_square(pose)))
        return np.linalg.inv(path[0]) @ np.stack(path)

    def _fresh(self, count: int) -> np.ndarray:
        """New track numbers [count]."""
        self._next_track += count
        return np.arange(self._next_track - count, self._next_track)

    def _follow(self, last: Frame, frame: Frame) -> tuple[np.ndarray, np.ndarray] | None:
        """Hand the tracks of the last frame on; its motion [3, 3], [3] to this one, of unit length."""
        matches, self._similarity = mutual_nearest(last.descriptors, frame.descriptors, ratio=self.ratio)
        if len(matches) < 8:
            return None
        i, j = matches.astype(int).T
        motion, inliers = self._essential(last.keypoints[i], frame.keypoints[j])
        self._similarity = self._similarity[inliers]
        frame.tracks[j[inliers]] = last.tracks[i[inliers]]
        return motion

    def _essential(self, points0: np.ndarray, points1: np.ndarray):
        """The motion (or None) between matched points, and which of them [N] agree."""
        essential, mask = cv2.findEssentialMat(points0, points1, self._matrix, cv2.RANSAC, 0.999, 1.0, maxIters=1000)
        if essential is None or essential.shape != (3, 3):
            return None, np.zeros(len(points0), bool)
        inliers = mask[:, 0] > 0
        _, rotation, translation, _ = cv2.recoverPose(essential, points0[inliers], points1[inliers], self._matrix)
        return (rotation, translation[:, 0]), inliers

    def _begin(self, frame: Frame) -> None:
        """Make the first map as soon as the camera has moved enough."""
        self._waiting.append(frame)
        first = self._waiting[0]
        if first is frame:
            first.pose = np.eye(3, 4)
            return
        _, i, j = np.intersect1d(first.tracks, frame.tracks, return_indices=True)
        if len(i) < MIN_POINTS:  # out of sight before it moved enough
            self._waiting = [frame]
            frame.pose = np.eye(3, 4)
            return
        motion, _ = self._essential(first.keypoints[i], frame.keypoints[j])
        if motion is None:
            return
        frame.pose = np.c_[motion]
        self._window = [first, frame]
        self._triangulate(frame)
        if len(self._points) < MIN_POINTS:
            self._points, self._window, frame.pose = {}, [], None
            return
        self.keyframes = 2
        self._adjust()
        for between in self._waiting[1:-1]:
            between.pose = self._pnp(between, first.pose)
        self.poses[-len(self._waiting) + 1 :] = [f.pose for f in self._waiting[:-1]]
        self._waiting = []

    def _locate(self, frame: Frame, motion: tuple[np.ndarray, np.ndarray] | None) -> None:
        last, before = self._last.pose, self.poses[max(len(self.poses) - 2, 0)]
        before = last if before is None else before
        guess = (_square(last) @ np.linalg.inv(_square(before)) @ _square(last))[:3]  # constant velocity
        frame.pose = self._pnp(frame, guess)
        if frame.pose is not None:
            self._search(frame)
            frame.pose = self._pnp(frame, frame.pose)
        if frame.pose is None:
            self.lost += 1
            frame.pose = guess
            if motion is not None:  # a new map at the old speed
                rotation = motion[0] @ last[:, :3]
                speed = np.linalg.norm(_center(last) - _center(before))
                frame.pose = np.c_[rotation, motion[0] @ last[:, 3] + speed * motion[1]]
            self._window = [self._last]
            self._points = {}
        elif not self._moved(frame):
            return
        self.keyframes += 1
        self._window = [*self._window[-WINDOW + 1 :], frame]
        self._triangulate(frame)
        self._adjust()

    def _known(self, frame: Frame) -> np.ndarray:
        """The keypoints [K] whose points are in the map."""
        return np.flatnonzero([track in self._points for track in frame.tracks])

    def _positions(self, tracks: np.ndarray) -> np.ndarray:
        return np.array([self._points[track] for track in tracks]).reshape(-1, 3)

    def _pnp(self, frame: Frame, guess: np.ndarray) -> np.ndarray | None:
        """The pose by the points that the frame sees; what disagrees leaves its track."""
        known = self._known(frame)
        if len(known) < MIN_INLIERS:
            return None
        points, keypoints = self._positions(frame.tracks[known]), frame.keypoints[known]
        turn, shift = cv2.Rodrigues(guess[:, :3])[0], guess[:, 3:].copy()
        found, turn, shift, inliers = cv2.solvePnPRansac(
            points, keypoints, self._matrix, None, turn, shift, True, 200, PIXELS, 0.999
        )
        if not found or inliers is None or len(inliers) < MIN_INLIERS:
            return None
        own = inliers[:, 0]
        turn, shift = cv2.solvePnPRefineLM(points[own], keypoints[own], self._matrix, None, turn, shift)
        pose = np.c_[cv2.Rodrigues(turn)[0], shift]
        wrong = known[self._errors(pose, points, keypoints) > 2 * PIXELS]
        frame.tracks[wrong] = self._fresh(len(wrong))
        return pose

    def _errors(self, pose: np.ndarray, points: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
        """Reprojection errors [N] in pixels; inf behind the camera."""
        error = np.linalg.norm(self._project(pose, points) - keypoints, axis=1)
        return np.where(_depth(pose, points) > 0, error, np.inf)

    def _project(self, pose: np.ndarray, points: np.ndarray) -> np.ndarray:
        seen = (points @ pose[:, :3].T + pose[:, 3]) @ self._matrix.T
        return seen[:, :2] / seen[:, 2:]

    def _search(self, frame: Frame) -> None:
        """Find points of the local map where they must be, as similar as the matches from frame to frame."""
        held = set(frame.tracks.tolist())
        tracks, descriptors = [], []
        for keyframe in reversed(self._window):
            new = [row for row in self._known(keyframe) if keyframe.tracks[row] not in held]
            tracks.extend(keyframe.tracks[new].tolist())
            descriptors.append(keyframe.descriptors[new])
            held.update(tracks)
        tracks, descriptors = np.array(tracks, int), np.concatenate(descriptors)
        free = np.flatnonzero([track not in self._points for track in frame.tracks])
        points = self._positions(tracks)
        expected = np.where(_depth(frame.pose, points)[:, None] > 0, self._project(frame.pose, points), np.inf)
        keypoints = frame.keypoints[free]
        near = np.abs(expected[:, None, 0] - keypoints[None, :, 0]) < RADIUS
        point, keypoint = np.nonzero(near & (np.abs(expected[:, None, 1] - keypoints[None, :, 1]) < RADIUS))
        similarity = (descriptors[point] * frame.descriptors[free[keypoint]]).sum(1)
        order = np.argsort(-similarity, kind="stable")
        order = order[similarity[order] >= np.median(self._similarity)]
        first = np.zeros((2, len(order)), bool)  # the most similar of each point, and of each keypoint
        for row, side in zip(first, (point, keypoint), strict=True):
            row[np.unique(side[order], return_index=True)[1]] = True
        best = order[first.all(0)]
        frame.tracks[free[keypoint[best]]] = tracks[point[best]]

    def _moved(self, frame: Frame) -> bool:
        """Whether the camera has moved on since the last keyframe, or lost much of what that one saw."""
        keyframe = self._window[-1]
        if len(self._known(frame)) < MIN_KNOWN * len(self._known(keyframe)):
            return True
        _, i, j = np.intersect1d(keyframe.tracks, frame.tracks, return_indices=True)
        flow = np.linalg.norm(keyframe.keypoints[i] - frame.keypoints[j], axis=1)
        return bool(np.median(flow) > MIN_FLOW * self.camera.width)

    def _triangulate(self, frame: Frame) -> None:
        """Add the points that the frame and an earlier keyframe see under a sufficient angle."""
        for keyframe in self._window[:-1]:
            tracks, i, j = np.intersect1d(keyframe.tracks, frame.tracks, return_indices=True)
            new = np.array([track not in self._points for track in tracks], bool)
            if not new.any():
                continue
            tracks, points0, points1 = tracks[new], keyframe.keypoints[i[new]], frame.keypoints[j[new]]
            found = cv2.triangulatePoints(self._matrix @ keyframe.pose, self._matrix @ frame.pose, points0.T, points1.T)
            with np.errstate(divide="ignore", invalid="ignore"):
                points = (found[:3] / found[3]).T
                rays = [points - _center(pose) for pose in (keyframe.pose, frame.pose)]
                cosine = (rays[0] * rays[1]).sum(1) / np.linalg.norm(rays[0], axis=1) / np.linalg.norm(rays[1], axis=1)
                good = (
                    (cosine < np.cos(MIN_ANGLE))
                    & (self._errors(keyframe.pose, points, points0) < PIXELS)
                    & (self._errors(frame.pose, points, points1) < PIXELS)
                )
            self._points.update(zip(tracks[good].tolist(), points[good], strict=True))

    def _adjust(self) -> None:
        """Adjust the window; observations that disagree leave their tracks, points out of sight leave the map."""
        seen = [self._known(frame) for frame in self._window]
        all_tracks = np.concatenate([f.tracks[rows] for f, rows in zip(self._window, seen, strict=True)])
        tracks, index, counts = np.unique(all_tracks, return_inverse=True, return_counts=True)
        keep = counts > 1
        if keep.sum() < MIN_INLIERS:
            return
        views = np.repeat(np.arange(len(seen)), [len(rows) for rows in seen])[keep[index]]
        keypoints = np.concatenate([f.keypoints[rows] for f, rows in zip(self._window, seen, strict=True)])
        number = np.cumsum(keep) - 1
        poses, points = adjust(
            self.camera,
            np.stack([frame.pose for frame in self._window]),
            self._positions(tracks[keep]),
            views,
            number[index][keep[index]],
            keypoints[keep[index]],
            fixed=1 if len(self._window) == self.keyframes else 2,  # at first its scale may still settle
        )
        for frame, pose in zip(self._window, poses, strict=True):
            frame.pose[:] = pose
        self._points = dict(zip(tracks[keep].tolist(), points, strict=True))
        for frame in self._window:
            known = self._known(frame)
            errors = self._errors(frame.pose, self._positions(frame.tracks[known]), frame.keypoints[known])
            wrong = known[errors > 2 * PIXELS]
            frame.tracks[wrong] = self._fresh(len(wrong))


def _square(pose: np.ndarray) -> np.ndarray:
    return np.vstack([pose, [0, 0, 0, 1]])


def _center(pose: np.ndarray) -> np.ndarray:
    return -pose[:, :3].T @ pose[:, 3]


def _depth(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ pose[2, :3] + pose[2, 3]

"""Monocular visual odometry with local features: the trajectory of a video, up to scale.

Each frame is matched to the one before, and the matches are filtered with an essential matrix. Those with a point in
the local map give the pose (PnP), and further points are then searched for near their projections. A frame that has
moved far enough becomes a keyframe: new points are triangulated, and the last keyframes are bundle-adjusted,
once their keypoints are aligned where that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from pipelines.local_map import Frame, LocalMap, center
from tpsfm.alignment.patches import smoothed
from tpsfm.features import Features
from tpsfm.geometry import Camera
from tpsfm.matching.nearest import mutual_nearest

MIN_FLOW = 0.01  # of the image's width, since the last keyframe
MIN_KNOWN = 0.85  # share of the last keyframe's points; fewer make a keyframe
MIN_POINTS = 30  # to start a map


@dataclass
class Odometry:
    """Give it frame after frame with `add`; `path()` is the trajectory.

    Args:
        camera: a pinhole camera with known intrinsics.
        ratio: Lowe's ratio for matches between frames, or None.
        seed: of the random sampling in the estimators.
        aligned: make the keypoints of keyframes exact by the pixels around them; `add` needs the images then.

    Attributes:
        poses: float64 [3, 4], world to camera, of each frame; None before there is a map.
        lost: number of frames that could not be located in the map.
        map: the points seen by the last keyframes.
    """

    camera: Camera
    ratio: float | None = None
    seed: int = 0
    aligned: bool = False
    poses: list[np.ndarray | None] = field(default_factory=list, init=False)
    lost: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.map = LocalMap(self.camera, self.aligned)
        self._waiting: list[Frame] = []  # frames before there is a map
        self._last: Frame | None = None
        cv2.setRNGSeed(self.seed)

    def add(self, features: Features, image: np.ndarray | None = None) -> None:
        """Find the pose of the next frame, `image` uint8 [H, W] or [H, W, 3]."""
        frame = Frame(
            features.keypoints.astype(float),
            features.descriptors,
            self.map.fresh(len(features)),
            image=smoothed(image) if self.aligned and image is not None else None,
        )
        motion = self._follow(self._last, frame) if self._last else None
        if self._last and self.map.window:
            self._locate(self._last, frame, motion)
        else:
            self._begin(frame)
        self._last = frame
        self.poses.append(frame.pose)

    def path(self) -> np.ndarray:
        """float64 [N, 4, 4], camera to world: in the first camera's frame, of arbitrary scale."""
        path, pose = [], np.eye(3, 4, dtype=np.float64)
        for known in self.poses:
            pose = pose if known is None else known
            path.append(np.linalg.inv(_square(pose)))
        return np.linalg.inv(path[0]) @ np.stack(path)

    def _follow(self, last: Frame, frame: Frame) -> tuple[np.ndarray, np.ndarray] | None:
        """Continue the tracks of the last frame; the motion [3, 3], [3] from it to this one, of unit length."""
        matches, self._similarity = mutual_nearest(last.descriptors, frame.descriptors, ratio=self.ratio)
        if len(matches) < 8:
            return None
        i, j = matches.astype(int).T
        motion, inliers = self._essential(last.keypoints[i], frame.keypoints[j])
        self._similarity = self._similarity[inliers]
        frame.tracks[j[inliers]] = last.tracks[i[inliers]]
        return motion

    def _essential(
        self, points0: np.ndarray, points1: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray] | None, np.ndarray]:
        """The motion from matched points (or None), and which of them are inliers, bool [N]."""
        essential, mask = cv2.findEssentialMat(points0, points1, self.map.matrix, cv2.RANSAC, 0.999, 1.0, maxIters=1000)
        if essential is None or essential.shape != (3, 3):
            return None, np.zeros(len(points0), bool)
        inliers = mask[:, 0] > 0
        _, rotation, translation, _ = cv2.recoverPose(essential, points0[inliers], points1[inliers], self.map.matrix)
        return (rotation, translation[:, 0]), inliers

    def _begin(self, frame: Frame) -> None:
        """Start the map as soon as the camera has moved enough."""
        self._waiting.append(frame)
        first = self._waiting[0]
        if first is frame:
            first.pose = np.eye(3, 4)
            return
        _, i, j = np.intersect1d(first.tracks, frame.tracks, return_indices=True)
        if len(i) < MIN_POINTS:  # the first frame is out of view already
            self._waiting = [frame]
            frame.pose = np.eye(3, 4)
            return
        motion, _ = self._essential(first.keypoints[i], frame.keypoints[j])
        if motion is None:
            return
        frame.pose = np.c_[motion]
        self.map.restart(first, frame)
        self.map.triangulate(frame)
        if len(self.map.points) < MIN_POINTS:
            self.map.restart()
            frame.pose = None
            return
        self.map.keyframes = 2
        self.map.adjust()
        for between in self._waiting[1:-1]:
            between.pose = self.map.pnp(between, first.known_pose)
        self.poses[-len(self._waiting) + 1 :] = [f.pose for f in self._waiting[:-1]]
        self._waiting = []

    def _locate(self, previous: Frame, frame: Frame, motion: tuple[np.ndarray, np.ndarray] | None) -> None:
        last, before = previous.known_pose, self.poses[max(len(self.poses) - 2, 0)]
        before = last if before is None else before
        guess = (_square(last) @ np.linalg.inv(_square(before)) @ _square(last))[:3]  # constant velocity
        frame.pose = self.map.pnp(frame, guess)
        if frame.pose is not None:
            self.map.search(frame, self._similarity)
            frame.pose = self.map.pnp(frame, frame.pose)
        if frame.pose is None:
            self.lost += 1
            frame.pose = guess
            if motion is not None:  # start a new map at the old speed
                rotation = motion[0] @ last[:, :3]
                speed = np.linalg.norm(center(last) - center(before))
                frame.pose = np.c_[rotation, motion[0] @ last[:, 3] + speed * motion[1]]
            self.map.restart(previous)
        elif not self._moved(frame):
            return
        self.map.extend(frame)

    def _moved(self, frame: Frame) -> bool:
        """Whether the camera has moved since the last keyframe, or sees much less of its points."""
        keyframe = self.map.window[-1]
        if len(self.map.known(frame)) < MIN_KNOWN * len(self.map.known(keyframe)):
            return True
        _, i, j = np.intersect1d(keyframe.tracks, frame.tracks, return_indices=True)
        flow = np.linalg.norm(keyframe.keypoints[i] - frame.keypoints[j], axis=1)
        return bool(np.median(flow) > MIN_FLOW * self.camera.width)


def _square(pose: np.ndarray) -> np.ndarray:
    return np.vstack([pose, [0, 0, 0, 1]])

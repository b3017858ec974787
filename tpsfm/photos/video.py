"""Frames of a video, and the choice of those that make a map: sharp ones between which the camera has moved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.photos.listing import is_image

STEP = 0.03  # motion from one chosen frame to the next, of the longer side
MOVING = 80  # percentile of the corners' ways that counts: who walks round a thing keeps the middle where it is
SEARCH = 0.5  # of a step, from which on the sharpest frame is looked for
LONGEST_SEARCH = 90  # frames
LOST = 0.5  # share of the tracked corners below which the view is another
SIDE = 320  # pixels of the small copies that motion is measured in
CORNERS, FEWEST_CORNERS = 200, 12
FAILURES = 50  # reads that may fail in a row before the rest of the video counts as damaged

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read at FFmpeg's first use; we tell what is wrong


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        index: its number, from 0.
        seconds: when it is shown.
        pixels: uint8 [H, W, 3] BGR, upright as the video's rotation says.
    """

    index: int
    seconds: float
    pixels: np.ndarray


class Video:
    """A video file, decoded by OpenCV's FFmpeg.

    Attributes:
        path: of the file.
        length: how many frames it says that it has; 0 where it doesn't say.
        seen: how many frames were found so far.

    Raises:
        TpsfmError: it can't be read or is not a video that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            with open(path, "rb") as file:
                head = file.read(1)
        except OSError as error:
            raise TpsfmError(f"cannot read video {path}: {error.strerror or error}") from error
        if not head:
            raise TpsfmError(f"cannot read video {path}: it is empty")
        if is_image(self.path):
            raise TpsfmError(f"{path} is one photo; name a folder of photos or a video")
        self._capture = _open(self.path)
        self.length = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.seen = 0
        self._rate = self._capture.get(cv2.CAP_PROP_FPS)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """All frames from number `start` on; damaged ones are passed over and not numbered.

        Call it once.

        Raises:
            TpsfmError: there is not one frame that can be decoded.
        """
        failures, seconds = 0, 0.0
        while failures < FAILURES and self._capture.isOpened():
            if not self._capture.grab():
                failures += 1
                continue
            shown = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            seconds = shown if shown > seconds else self.seen / self._rate if self._rate > 0 else seconds
            index = self.seen
            if index >= start:
                decoded, pixels = self._capture.retrieve()
                if not decoded:
                    failures += 1
                    continue
                self.seen, failures = index + 1, 0
                yield Frame(index, seconds, pixels)
            else:
                self.seen, failures = index + 1, 0
        if self.seen == 0:
            raise TpsfmError(_undecodable(self.path))

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()


def _open(path: Path) -> cv2.VideoCapture:
    logging = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    finally:
        logging.setLogLevel(level)
    if not capture.isOpened():
        raise TpsfmError(_undecodable(path))
    return capture


def _undecodable(path: Path) -> str:
    return (
        f"cannot read video {path}: it is no video, cut off, or its codec is not known here; if players show it,"
        f" convert it: ffmpeg -i {path.name} -c:v libx264 converted.mp4"
    )


def by_time(frames: Iterable[Frame], fps: float) -> Iterator[tuple[Frame, int]]:
    """The sharpest frame of each 1 / `fps` seconds; yields as `by_motion`, from the start of such a span on."""
    best, sharpest, span = None, -1.0, -1
    for frame in frames:
        if int(frame.seconds * fps) != span:
            if best is not None:
                yield best, frame.index
            best, sharpest, span = None, -1.0, int(frame.seconds * fps)
        sharp = sharpness(frame.pixels)
        if sharp > sharpest:
            best, sharpest = frame, sharp
    if best is not None:
        yield best, frame.index + 1


def by_motion(frames: Iterable[Frame], is_first: bool = True) -> Iterator[tuple[Frame, int]]:
    """Frames between which the picture has moved by some `STEP` of its longer side, the sharpest about there.

    Motion is how far corners have moved that are tracked from frame to frame. Where the view changes at once, as by a
    cut, a frame is taken too; blank ones never are.

    Args:
        frames: of a video, from its start or where an earlier search was.
        is_first: whether the first frame that is not blank is taken as well.

    Yields:
        (frame, number of the frame at which the search for the next one begins): from there, with `is_first` false, it
        goes on just the same.
    """
    tracks: _Tracks | None = None
    best, sharpest, begun = None, -1.0, 0
    index = 0
    for frame in frames:
        index = frame.index
        small = _small(frame.pixels)
        if tracks is None:
            tracks = _Tracks.start(small)
            if tracks is not None and is_first:
                is_first = False
                yield frame, index
            continue
        moved, share = tracks.follow(small)
        is_lost = share < LOST
        if (moved >= SEARCH * STEP or is_lost) and not _is_blank(small):
            sharp = sharpness(frame.pixels)
            begun = index if best is None else begun
            if sharp > sharpest:
                best, sharpest = frame, sharp
        if is_lost or (best is not None and (moved >= STEP or index - begun >= LONGEST_SEARCH)):
            tracks = _Tracks.start(small)
            if best is not None:
                yield best, index
            best, sharpest = None, -1.0
    if best is not None:
        yield best, index + 1


def sharpness(pixels: np.ndarray) -> float:
    """Variance of the Laplacian; comparable between pictures of one size and content."""
    grey = cv2.cvtColor(_reduced(pixels, 2 * SIDE), cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


class _Tracks:
    """Corners of a small picture, followed from one to the next."""

    def __init__(self, small: np.ndarray, corners: np.ndarray) -> None:
        self._last, self._points = small, corners
        self._origin, self._kept = corners.copy(), np.ones(len(corners), bool)

    @classmethod
    def start(cls, small: np.ndarray) -> _Tracks | None:
        """Tracks of a picture's corners; None where it has hardly any."""
        corners = _corners(small)
        return None if len(corners) < FEWEST_CORNERS else cls(small, corners)

    def follow(self, small: np.ndarray) -> tuple[float, float]:
        """How far they have moved from the start, of the longer side, and the share that is still seen."""
        points, found = _flow(self._last, small, self._points)
        back, found_back = _flow(small, self._last, points)
        returns = np.linalg.norm(back - self._points, axis=-1).ravel() < 1
        self._kept &= found & found_back & returns
        self._last, self._points = small, points
        way = np.linalg.norm(points - self._origin, axis=-1).ravel()[self._kept]
        return float(np.percentile(way, MOVING)) / max(small.shape) if len(way) else 0.0, float(self._kept.mean())


def _flow(first: np.ndarray, second: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points float32 [N, 1, 2] of one picture are in another, and whether they were found, bool [N]."""
    moved, found, _ = cv2.calcOpticalFlowPyrLK(first, second, points, points.copy())
    return np.asarray(moved), np.asarray(found).ravel() == 1


def _corners(small: np.ndarray) -> np.ndarray:
    """float32 [N, 1, 2]; good ones by an absolute measure, so that noise on a blank wall has none."""
    strength = cv2.cornerMinEigenVal(small, 7)
    corners = cv2.goodFeaturesToTrack(small, CORNERS, 0.02, 7, blockSize=7)
    if corners is None:
        return np.empty((0, 1, 2), np.float32)
    x, y = corners[:, 0].astype(int).T
    return corners[strength[y, x] > 1e-4]


def _is_blank(small: np.ndarray) -> bool:
    return len(_corners(small)) < FEWEST_CORNERS


def _small(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(_reduced(pixels, SIDE), cv2.COLOR_BGR2GRAY)


def _reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """At most so many pixels on the longer side."""
    scale = side / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)

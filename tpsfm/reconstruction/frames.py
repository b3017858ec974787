"""Frames of a video, in the place of photos."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2

from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import write_atomic
from tpsfm.io.workspace import Workspace, digest
from tpsfm.photos import file_digest
from tpsfm.photos.video import Frame, Video, by_motion, by_time
from tpsfm.progress import Progress, Update
from tpsfm.reconstruction.stage import Done, Stage, option

FOLDER = "frames"  # in the workspace
QUALITY = 95  # of their JPEGs

log = logging.getLogger("tpsfm")


@dataclass(frozen=True, kw_only=True)
class Frames(Stage):
    """Writes frames of a video into the workspace, where they are its photos; does nothing where photos are given.

    A frame is named by its number in the video. A run that was interrupted goes on from the last one written.
    `run` raises TpsfmError where the video can't be decoded or gives fewer than two frames.
    """

    name: ClassVar[str] = "frames"
    title: ClassVar[str] = "frames"

    fps: float | None = option(
        None, "Of a video: the sharpest of so many frames a second; left out, frames by the camera's motion.", above=0.0
    )

    def _work(self, workspace: Workspace, progress: Progress) -> Done | None:
        source = workspace.manifest.get("video")
        if source is None:
            workspace.manifest["stages"].pop(self.name, None)
            if self.fps is not None:
                log.warning("--fps is for videos; %s is a folder of photos", workspace.images)
            return None
        key = digest([file_digest(Path(source["path"])), self.fps, "frames 1"])
        folder = workspace.root / FOLDER
        if self._is_done(workspace, key, folder):
            return None
        with closing(Video(Path(source["path"]))) as video:
            if source.get("key") != key:
                shutil.rmtree(folder, ignore_errors=True)
                source |= {"key": key, "next": None}
                workspace.save()
            folder.mkdir(exist_ok=True)
            self._write(video, workspace, folder, progress)
        count = len(list(folder.glob("*.jpg")))
        if video.seen < 0.9 * video.length:
            text = "%s is damaged: %d of its %d frames can be decoded, the map is of these"
            log.warning(text, video.path, video.seen, video.length)
        if count < 2:
            raise TpsfmError(f"{video.path}: the camera hardly moves in it, a map needs you to move; see also --fps")
        return Done(key, count, counts={"frames": count, "of": video.seen})

    def _write(self, video: Video, workspace: Workspace, folder: Path, progress: Progress) -> None:
        """Write the frames that aren't there yet."""
        source = workspace.manifest["video"]
        start = source["next"]
        with progress.bar(self.title, video.length or None) as update:
            frames = _reported(video, start or 0, update)
            chosen = by_motion(frames, start is None) if self.fps is None else by_time(frames, self.fps)
            for frame, following in chosen:
                jpeg = cv2.imencode(".jpg", frame.pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
                write_atomic(folder / f"frame_{frame.index:06d}.jpg", jpeg.tobytes())
                source["next"] = following
                workspace.save()


def _reported(video: Video, start: int, update: Update) -> Iterator[Frame]:
    """The frames of a video from a number on, with progress."""
    for frame in video.frames(start):
        update(frame.index + 1, max(video.length, frame.index + 1))
        yield frame

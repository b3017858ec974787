"""A walk along the rendered courtyard, as a video."""

import struct
from pathlib import Path

import cv2
import numpy as np

from tpsfm.demo.dataset import FOCAL_35MM, render_scene
from tpsfm.demo.rendering import View, look_at

SIZE = (320, 240)
FPS = 15


def walk(count: int) -> dict[str, View]:
    """Cameras along an arc of 50 degrees that look at the middle."""
    focal = FOCAL_35MM / 36 * max(SIZE)
    K = np.array([[focal, 0, (SIZE[0] - 1) / 2], [0, focal, (SIZE[1] - 1) / 2], [0, 0, 1]])
    views = {}
    for i in range(count):
        angle = np.radians(-25 + 50 * i / (count - 1))
        centre = np.array([8.5 * np.sin(angle), -1.2 - 8.5 * np.cos(angle), 1.8])
        views[f"frame_{i:06d}.jpg"] = View(K, look_at(centre, np.array([0, -0.8, 2.8]), 0), centre, SIZE)
    return views


def rendered_walk(out: Path, count: int = 32) -> list[np.ndarray]:
    """Frames uint8 [H, W, 3] BGR of the walk; `out`/gt.json has their cameras."""
    folder = render_scene(out, size=SIZE, cameras=walk(count))
    return [cv2.imread(str(path)) for path in sorted(folder.iterdir())]


def write_video(path: Path, frames: list[np.ndarray], fps: float = FPS) -> Path:
    codec = {".mp4": "mp4v", ".avi": "MJPG"}[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def turn_by_metadata(path: Path) -> None:
    """Have the display matrix of an MP4's track tell players to turn it by 90 degrees clockwise."""
    content = bytearray(path.read_bytes())
    start = content.find(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, SIZE[1] * 65536, 0, 1 << 30)
    path.write_bytes(content)

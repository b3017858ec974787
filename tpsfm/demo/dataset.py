"""Rendered photos with known cameras, to try the whole chain and measure its true error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from tpsfm.demo.courtyard import CENTRE, RADIUS, Courtyard
from tpsfm.demo.rendering import Surface, View, draw, light, look_at
from tpsfm.errors import TpsfmError

FOCAL_35MM = 28  # of the demo's camera, as EXIF tells it
_SUPERSAMPLING = 2


def render_scene(
    out: str | Path,
    views: int = 24,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
    cameras: Mapping[str, View] | None = None,
) -> Path:
    """Render photos of a textured courtyard from known cameras: `out/images/*.jpg` and `out/gt.json`.

    Two passes along an arc in front of the scene, as someone would walk with a camera, the second higher and
    closer. The photos have EXIF, vignetting, sensor noise and small changes of exposure. The same arguments give
    the same files.

    Args:
        views: how many photos.
        size: (width, height) in pixels.
        progress: called with the number of finished photos.
        cameras: photos to take instead of those of the walk, by file name, all of `size`.

    Returns:
        The folder of the photos. `gt.json` maps each name to R [3][3] (world to camera), C [3] (centre, in
        metres) and K [3][3] (pixels; the centre of the top-left pixel is (0, 0)).

    Raises:
        TpsfmError: fewer than two views, a size below 64 pixels, or `out` can't be written.
    """
    if views < 2 or min(size) < 64:
        raise TpsfmError(f"can't render {views} views of {size[0]}x{size[1]}; take at least 2 of 64x64 pixels")
    images = Path(out) / "images"
    try:
        images.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TpsfmError(f"can't write to '{images}': {error.strerror}; choose another folder") from None
    if cameras is None:
        cameras = {f"view_{i:03d}.jpg": view for i, view in enumerate(camera_path(views, size, seed))}
    rng = np.random.default_rng([seed, 1])
    courtyard = Courtyard(rng, scale=150 * min(max(size) / 640, 2.5))
    sun = np.array([0.5, -0.62, 0.6])
    surfaces = light(courtyard.quads, sun / np.linalg.norm(sun), RADIUS, CENTRE)

    def photograph(i: int, name: str) -> None:
        photo = _develop(_expose(surfaces, cameras[name]), np.random.default_rng([seed, 2, i]))
        write_photo(images / name, photo)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(pool.map(photograph, range(len(cameras)), cameras), 1):
            if progress:
                progress(done)
    write_truth(Path(out) / "gt.json", cameras)
    return images


def write_truth(path: Path, cameras: Mapping[str, View]) -> None:
    """Write known cameras as `gt.json` (see `render_scene`)."""
    truth = {n: {"R": v.R.tolist(), "C": v.C.tolist(), "K": v.K.tolist()} for n, v in cameras.items()}
    path.write_text(json.dumps(truth, indent=1))


def camera_path(views: int, size: tuple[int, int], seed: int = 0) -> list[View]:
    """The demo's cameras, in the order of the walk."""
    rng = np.random.default_rng([seed, 0])
    width, height = size
    focal = FOCAL_35MM / 36 * max(size)
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    first = (views + 1) // 2
    cameras = []
    for i in range(views):
        again = i >= first
        along = (i - first if again else i) / max((views - first if again else first) - 1, 1)
        angle = np.radians(-44 + 98 * (1 - along if again else along)) + rng.normal(0, 0.015)
        distance, rise = (7.6, 3.4) if again else (9.3, 1.65)
        centre = np.array([distance * np.sin(angle), -1.2 - distance * np.cos(angle), rise])
        centre += rng.normal(0, (0.15, 0.15, 0.08))
        target = np.array([0.35 * centre[0] * again, -0.8, 2.6 if again else 3.0]) + rng.normal(0, 0.2, 3)
        cameras.append(View(K, look_at(centre, target, rng.normal(0, 0.03)), centre, size))
    return cameras


def _expose(surfaces: list[Surface], view: View) -> np.ndarray:
    """float32 [H, W, 3] sRGB 0..255, antialiased, with a sky."""
    k = _SUPERSAMPLING
    K = np.diag([k, k, 1.0]) @ view.K
    K[:2, 2] += (k - 1) / 2
    fine = View(K, view.R, view.C, (k * view.size[0], k * view.size[1]))
    image, inverse_depth = draw(surfaces, fine)
    sky = inverse_depth == 0
    y, x = np.nonzero(sky)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(K).T @ view.R
    height = np.clip(rays[:, 2] / np.linalg.norm(rays, axis=1), 0, 1)[:, None] ** 0.6
    image[sky] = (224, 230, 236) + height * (np.array((96, 148, 206)) - (224, 230, 236))
    return cv2.resize(image, view.size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8: the picture with a small camera's lens blur, vignetting, exposure and noise."""
    height, width = image.shape[:2]
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.45), np.float32)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image *= (1 - 0.09 * (x**2 + y**2))[..., None] * rng.uniform(0.93, 1.06)
    image += rng.normal(0, 1.6, (height, width, 1)) + rng.normal(0, 0.9, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_photo(path: Path, image: np.ndarray) -> None:
    """Write a rendered photo uint8 [H, W, 3] as a JPEG with the demo camera's EXIF."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "tpsfm", "demo camera"
    exif.get_ifd(0x8769)[0xA405] = FOCAL_35MM
    Image.fromarray(image).save(path, quality=94, subsampling=0, exif=exif)


def report_errors(model: Path, truth: Path) -> list[str]:
    """Lines of text: the errors of a map's cameras against the known ones in `gt.json`.

    The map is aligned with the known camera centres by a least-squares similarity.
    """
    from tpsfm.colmap import read_model
    from tpsfm.evaluation.poses import aligned_errors, load_poses, pose_auc, pose_errors

    known, found = load_poses(truth), read_model(model).images
    metres, degrees = aligned_errors(known, found)
    auc = pose_auc(pose_errors(known, found), (1, 5))
    return [
        f"true error          {100 * np.median(metres):.1f} cm and {np.median(degrees):.2f}° (median over the photos)",
        f"pose AUC@1°, 5°     {100 * auc[0]:.1f}, {100 * auc[1]:.1f}",
    ]

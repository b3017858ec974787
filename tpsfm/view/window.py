"""The map in a window, with Open3D in a process of its own.

Open3D can't be loaded beside torch or pycolmap, and may crash without a working graphics driver.

Run as `python -m tpsfm.view.window JOB`, where JOB is an .npz file written by `draw`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model
from tpsfm.photos import SNAPSHOT
from tpsfm.view.scene import BACKGROUND, EDGES, REACH, Scene, scene_of, view_rotation

_NO_LIBRARY, _NO_WINDOW = 3, 4
_REMEDY = "on Debian or Ubuntu: apt install libusb-1.0-0 libgl1 libgomp1"


def has_display() -> bool:
    """Whether a window can be shown."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(model: Model, queries: Model | None = None, level: bool = False) -> None:
    """Show a map's points and frustums in an Open3D window; returns when it is closed.

    Args:
        queries: localized photos, a model in the same frame; they get a colour of their own.
        level: whether the map's third axis is known to be up.

    Raises:
        TpsfmError: there is no display, Open3D's system libraries are missing, or it failed.
    """
    if not has_display():
        raise TpsfmError("there is no display; use 'tpsfm view --web' or 'tpsfm view --snapshot map.png'")
    draw(scene_of(model, queries, level=level))


def draw(
    scene: Scene, snapshot: Path | None = None, size: tuple[int, int] = (1280, 800), timeout: float | None = None
) -> None:
    """Open a window on the scene until it is closed, or draw its overview into the PNG `snapshot` instead.

    Raises:
        TpsfmError: Open3D or one of its system libraries is missing, there is no display, or Open3D failed.
    """
    with tempfile.TemporaryDirectory(prefix="tpsfm-") as folder:
        job = Path(folder) / "job.npz"
        colors = np.repeat(scene.frustum_colors, len(EDGES), 0)
        lines = (EDGES + 5 * np.arange(len(scene.frustums))[:, None, None]).reshape(-1, 2)
        np.savez(
            job,
            points=scene.points,
            colors=scene.colors,
            corners=scene.frustums.reshape(-1, 3),
            lines=lines,
            line_colors=colors,
            overview=np.array(scene.overview),
            size=size,
            snapshot="" if snapshot is None else str(Path(snapshot).absolute()),
        )
        command = [sys.executable, "-m", "tpsfm.view.window", str(job)]
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise TpsfmError(f"Open3D took more than {timeout} s to draw; try 'tpsfm view --web'") from None
    if done.returncode == _NO_LIBRARY:
        raise TpsfmError(f"Open3D can't start ({done.stdout.strip()}); {_REMEDY}; or use 'tpsfm view --web'")
    if done.returncode == _NO_WINDOW:
        raise TpsfmError("no window can be opened here; use 'tpsfm view --web' or 'tpsfm view --snapshot map.png'")
    if done.returncode or (snapshot and not Path(snapshot).exists()):
        remedy = f"{_REMEDY} libvulkan1 mesa-vulkan-drivers" if snapshot else "use 'tpsfm view --web'"
        raise TpsfmError(f"Open3D failed (exit status {done.returncode}); {remedy}")


def main(job: str) -> int:
    """The child process: draw what `draw` wrote."""
    try:
        import open3d as o3d
    except (ImportError, OSError) as error:
        print(str(error).splitlines()[0] if str(error) else type(error).__name__)
        return _NO_LIBRARY
    with np.load(job) as file:
        data = dict(file)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(data["points"].astype(float)))
    cloud.colors = o3d.utility.Vector3dVector(data["colors"] / 255)
    lines = o3d.geometry.LineSet(
        o3d.utility.Vector3dVector(data["corners"].astype(float)), o3d.utility.Vector2iVector(data["lines"])
    )
    lines.colors = o3d.utility.Vector3dVector(data["line_colors"] / 255)
    geometries = [geometry for geometry, n in ((cloud, data["points"]), (lines, data["lines"])) if len(n)]
    show_or_save = _snapshot if str(data["snapshot"]) else _window
    return show_or_save(o3d, geometries, data)


def _window(o3d: ModuleType, geometries: list[Any], data: dict[str, np.ndarray]) -> int:
    width, height = (int(n) for n in data["size"])
    window = o3d.visualization.Visualizer()
    if not window.create_window("tpsfm", width, height):
        return _NO_WINDOW
    for geometry in geometries:
        window.add_geometry(geometry)
    options = window.get_render_option()
    options.point_size, options.background_color = 4, np.array(BACKGROUND) / 255
    eye, target, up = data["overview"]
    camera = o3d.camera.PinholeCameraParameters()
    rotation = view_rotation(eye, target, up)
    focal = 0.5 * min(width / REACH[0], height / REACH[1])
    camera.intrinsic = o3d.camera.PinholeCameraIntrinsic(width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5)
    camera.extrinsic = np.vstack([np.column_stack([rotation, -rotation @ eye]), [0, 0, 0, 1]])
    window.get_view_control().convert_from_pinhole_camera_parameters(camera, allow_arbitrary=True)
    window.run()
    window.destroy_window()
    return 0


def _snapshot(o3d: ModuleType, geometries: list[Any], data: dict[str, np.ndarray]) -> int:
    rendering = o3d.visualization.rendering
    width, height = (int(n) for n in data["size"])
    renderer = rendering.OffscreenRenderer(2 * width, 2 * height)
    background = (
        1.055 * (np.array(BACKGROUND) / 255) ** (1 / 2.4) - 0.055
    )  # Open3D applies the sRGB curve to the background alone
    renderer.scene.set_background([*background, 1.0])
    renderer.scene.view.set_post_processing(False)
    for i, geometry in enumerate(geometries):
        material = rendering.MaterialRecord()
        if isinstance(geometry, o3d.geometry.LineSet):
            material.shader, material.line_width = "unlitLine", 2.4
        else:
            material.shader = "defaultUnlit"
            material.point_size = float(np.clip(0.5 * np.sqrt(4 * width * height / len(geometry.points)), 2, 12))
        renderer.scene.add_geometry(str(i), geometry, material)
    eye, target, up = data["overview"]
    vertical = max(REACH[1], REACH[0] * height / width)
    renderer.setup_camera(float(2 * np.degrees(np.arctan(vertical))), target, eye, up)
    image = np.asarray(renderer.render_to_image())
    image = image.reshape(height, 2, width, 2, -1)[..., :3].mean((1, 3))
    save_snapshot(np.rint(image).astype(np.uint8), Path(str(data["snapshot"])))
    return 0


def save_snapshot(picture: np.ndarray, png: Path) -> None:
    """Write a picture uint8 [H, W, 3], marked so that it isn't taken for a photo."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", SNAPSHOT)
    Image.fromarray(picture).save(png, pnginfo=mark)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The map in a web page, served by viser on the loopback address by default."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Model, quaternion
from tpsfm.view.pages import thumbnail
from tpsfm.view.scene import BACKGROUND, REACH, Scene, scene_of

if TYPE_CHECKING:
    from viser import CameraFrustumHandle, ClientHandle, GuiEvent, SceneClickEvent, SceneNodePointerEvent, ViserServer


def serve(
    model: Model,
    images: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    queries: Model | None = None,
    query_images: Path | None = None,
    level: bool = False,
    block: bool = True,
    ready: Callable[[str], None] | None = None,
) -> ViserServer:
    """Serve a page with a map's points, frustums and the photos' thumbnails.

    A click on a photo moves the view there; clicks on two points, while measuring, tell their distance.

    Args:
        images: the photos' folder; None or a missing photo leaves its frustum empty.
        host: address to listen on; "0.0.0.0" makes the page visible in the network.
        port: 0 for any free one.
        queries, query_images: localized photos, a model in the same frame, and their folder.
        level: whether the map is in metres east, north and up; else it has a unit of its own.
        block: serve until interrupted; else return at once, and the server's `stop()` ends it.
        ready: called with the page's address once it is served.

    Raises:
        TpsfmError: the port is in use or not allowed.
    """
    import viser

    port = _free_port(host, port)
    scene = scene_of(model, queries, 500_000, level)
    server = viser.ViserServer(host=host, port=port, label="tpsfm", verbose=False)
    folders = [images] * len(model.images) + [query_images] * (len(scene.names) - len(model.images))
    page = _Page(server, scene, "m" if level else "of the map's units")
    threading.Thread(target=page.show_thumbnails, args=(folders,), daemon=True).start()
    try:
        if ready:
            ready(f"http://{'localhost' if host == '0.0.0.0' else host}:{port}")
        if block:
            server.sleep_forever()
    except KeyboardInterrupt:
        page.closed.set()
        server.stop()
    return server


def _free_port(host: str, port: int) -> int:
    """`port` if it is free, any free one for 0; viser itself would silently take another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TpsfmError(f"can't serve on {host}:{port} ({reason}); choose another with --port") from None
        return probe.getsockname()[1]


class _Page:
    """What the browser shows: the scene and a small panel."""

    def __init__(self, server: ViserServer, scene: Scene, unit: str) -> None:
        self.server, self.scene, self.unit, self.closed = server, scene, unit, threading.Event()
        self.eye, self.target, self.up = scene.overview
        server.scene.set_up_direction(self.up)
        server.scene.set_background_image(np.full((2, 2, 3), BACKGROUND, np.uint8))
        server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        point_size = scene.size / 10
        self.cloud = server.scene.add_point_cloud(
            "/points", scene.points, scene.colors, point_size=point_size, point_shape="circle", precision="float32"
        )
        self.frustums = [self._frustum(i) for i in range(len(scene.names))]
        self._panel(point_size)
        self._measure()
        server.on_client_connect(self._overview)

    def _frustum(self, index: int) -> CameraFrustumHandle:
        corners = self.scene.frustums[index].astype(np.float64)
        apex, top_left, top_right, bottom_right, bottom_left = corners
        across, down = top_right - top_left, bottom_left - top_left
        depth = np.linalg.norm((top_left + bottom_right) / 2 - apex)
        axes = [across / np.linalg.norm(across), down / np.linalg.norm(down)]
        aspect, tangent = np.linalg.norm(across) / np.linalg.norm(down), np.linalg.norm(down) / 2 / depth
        frustum = self.server.scene.add_camera_frustum(
            f"/photos/{index:06d}",
            fov=float(2 * np.arctan(tangent)),
            aspect=float(aspect),
            scale=float(depth * np.cbrt(aspect * tangent**2 / 3)),  # viser's scale is that of the volume
            thickness=1.5,
            thickness_units="screen",
            color=self.scene.frustum_colors[index],
            wxyz=np.array(quaternion(np.stack([*axes, np.cross(*axes)], 1))),
            position=apex,
        )

        @frustum.on_click
        def _(event: SceneNodePointerEvent[CameraFrustumHandle]) -> None:
            self.name.value = self.scene.names[index]  # type: ignore[misc]  # viser declares a setter at run time
            client = event.client
            with client.atomic():
                client.camera.up_direction = -down
                client.camera.position = apex - 1.2 * (corners[1:].mean(0) - apex)
                client.camera.look_at = corners[1:].mean(0)

        return frustum

    def _panel(self, point_size: float) -> None:
        gui = self.server.gui
        gui.add_markdown(f"**{len(self.scene.names):,}** photos, **{len(self.scene.points):,}** points")
        size = gui.add_slider("Point size", 0.1, 5.0, 0.1, 1.0)
        frustum = gui.add_slider("Photo size", 0.1, 5.0, 0.1, 1.0)
        shown = gui.add_checkbox("Photos", True)
        overview = gui.add_button("Overview")
        self.name = gui.add_text("Selected", "click a photo", disabled=True)
        scales = [np.asarray(handle.scale, float) for handle in self.frustums]

        @size.on_update
        def _(_: GuiEvent) -> None:
            self.cloud.point_size = point_size * size.value

        @frustum.on_update
        def _(_: GuiEvent) -> None:
            with self.server.atomic():
                for handle, scale in zip(self.frustums, scales, strict=True):
                    handle.scale = (scale * frustum.value).item()

        @shown.on_update
        def _(_: GuiEvent) -> None:
            with self.server.atomic():
                for handle in self.frustums:
                    handle.visible = shown.value

        @overview.on_click
        def _(event: GuiEvent) -> None:
            if event.client is not None:
                self._overview(event.client)

    def _measure(self) -> None:
        """Distances between two points that are clicked while a box is ticked."""
        gui = self.server.gui
        ends: list[np.ndarray] = []
        active = gui.add_checkbox("Measure", False, hint="Then click two points of the map.")
        told = gui.add_markdown("")

        @active.on_update
        def _(_: GuiEvent) -> None:
            ends.clear()
            told.content = "click a point" if active.value else ""

        @self.server.scene.on_click()
        def _(event: SceneClickEvent) -> None:
            if not active.value:
                return
            point = nearest_to_ray(self.scene.points, np.array(event.ray_origin), np.array(event.ray_direction))
            if point is None:
                return
            if len(ends) != 1:
                ends[:] = [point]
                told.content = "click another point"
                return
            ends.append(point)
            told.content = f"{np.linalg.norm(ends[1] - ends[0]):.3f} {self.unit}"
            self.server.scene.add_line_segments(
                "/distance", np.array([ends], np.float32), (255, 255, 255), thickness=3.0, thickness_units="screen"
            )
            self.server.scene.add_label("/distance/label", told.content, position=np.mean(ends, axis=0))

    def _overview(self, client: ClientHandle) -> None:
        with client.atomic():
            client.camera.up_direction = self.up
            client.camera.fov = float(2 * np.arctan(REACH[1]))
            client.camera.position = self.eye
            client.camera.look_at = self.target

    def show_thumbnails(self, folders: list[Path | None]) -> None:
        """Fill the frustums with their photos, one by one."""
        for handle, name, folder in zip(self.frustums, self.scene.names, folders, strict=True):
            picture = None if folder is None else thumbnail(Path(folder) / name)
            if self.closed.is_set():
                return
            if picture is not None:
                handle.image = picture


def nearest_to_ray(points: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> np.ndarray | None:
    """The first of points [P, 3] near a ray, as a click means it; None where none is within half a degree."""
    away = points - origin
    along = away @ (direction / np.linalg.norm(direction))
    across = np.sqrt(np.maximum((away**2).sum(1) - along**2, 0))
    angle = np.where(along > 0, across / np.maximum(along, 1e-9), np.inf)
    if not len(points) or angle.min() > np.tan(np.radians(0.5)):
        return None
    near = np.flatnonzero(angle <= max(2 * angle.min(), np.tan(np.radians(0.1))))
    return points[near[along[near].argmin()]].astype(np.float64)

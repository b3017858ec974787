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
    from viser import CameraFrustumHandle, ClientHandle, GuiEvent, SceneNodePointerEvent, ViserServer


def serve(
    model: Model,
    images: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    queries: Model | None = None,
    query_images: Path | None = None,
    block: bool = True,
    ready: Callable[[str], None] | None = None,
) -> ViserServer:
    """Serve a page with a map's points, frustums and the photos' thumbnails; a click on a photo moves the view there.

    Args:
        images: the photos' folder; None or a missing photo leaves its frustum empty.
        host: address to listen on; "0.0.0.0" makes the page visible in the network.
        port: 0 for any free one.
        queries, query_images: localized photos, a model in the same frame, and their folder.
        block: serve until interrupted; else return at once, and the server's `stop()` ends it.
        ready: called with the page's address once it is served.

    Raises:
        TpsfmError: the port is in use or not allowed.
    """
    import viser

    port = _free_port(host, port)
    scene = scene_of(model, queries, max_points=500_000)
    server = viser.ViserServer(host=host, port=port, label="tpsfm", verbose=False)
    folders = [images] * len(model.images) + [query_images] * (len(scene.names) - len(model.images))
    page = _Page(server, scene)
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

    def __init__(self, server: ViserServer, scene: Scene) -> None:
        self.server, self.scene, self.closed = server, scene, threading.Event()
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

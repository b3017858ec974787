"""A map in the formats of other programs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tpsfm.colmap.convention import to_colmap
from tpsfm.colmap.loading import pycolmap
from tpsfm.colmap.ply import write_ply
from tpsfm.colmap.reader import read_model
from tpsfm.colmap.world_formats import WORLD_WRITERS
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera, Model

# nerfstudio's camera model and distortion keys, by COLMAP's camera model; the parameters follow cx, cy.
_NERFSTUDIO = {
    "SIMPLE_PINHOLE": ("OPENCV", ()),
    "PINHOLE": ("OPENCV", ()),
    "SIMPLE_RADIAL": ("OPENCV", ("k1",)),
    "RADIAL": ("OPENCV", ("k1", "k2")),
    "OPENCV": ("OPENCV", ("k1", "k2", "p1", "p2")),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("k1",)),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2")),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")),
}
_BUNDLER = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_UPSIDE = np.diag([1.0, -1.0, -1.0])  # from COLMAP's camera axes (y down, z forward) to OpenGL's


def export(
    model: str | Path, format: str, out: str | Path, images: str | Path, world: Mapping[str, Any] | None = None
) -> Path:
    """Write a map in another format.

    Args:
        model: the map's folder.
        format: one of `EXPORT_FORMATS`. `colmap-bin`, `colmap-txt`; `ply`: the coloured points;
            `nerfstudio`: transforms.json and sparse_pc.ply, in the map's own frame; `bundler`: bundle.out
            (v0.3) and list.txt, the image origin at the principal point, as COLMAP writes it. Of a map in metres:
            `ply-utm`, `las` and `laz`: the points in UTM; `geojson`: the cameras.
        out: a file for `ply` and those of maps in metres, else a folder; made where it is missing.
        images: the image folder, to which nerfstudio's file points.
        world: the content of the map's georeference.json; None for a map in its own frame.

    Returns:
        `out`.

    Raises:
        TpsfmError: the format is unknown, can't hold a camera model or a name of this map, wants a map in metres or a
            package that isn't there; the map is damaged; `out` can't be written.
    """
    if format not in EXPORT_FORMATS:
        raise TpsfmError(f"no export format '{format}'; there are: {', '.join(EXPORT_FORMATS)}")
    out = Path(out)
    plain = read_model(model)  # says clearly what is missing or damaged
    if format in WORLD_WRITERS and world is None:
        raise TpsfmError(
            f"'{format}' needs a map in metres, and this one is in its own frame; give it GPS positions or ground"
            " control points: tpsfm map OUT --gps positions.csv"
        )
    try:
        (out.parent if format == "ply" or format in WORLD_WRITERS else out).mkdir(parents=True, exist_ok=True)
        if world is not None and format in WORLD_WRITERS:
            WORLD_WRITERS[format](plain, out, world)
        else:
            _WRITERS[format](Path(model), plain, out, Path(images))
    except OSError as error:
        raise TpsfmError(f"can't write '{error.filename or out}': {error.strerror}") from None
    return out


def _write_binary(folder: Path, model: Model, out: Path, images: Path) -> None:
    for file in folder.glob("*.bin"):
        shutil.copyfile(file, out / file.name)


def _write_text(folder: Path, model: Model, out: Path, images: Path) -> None:
    spaced = next((name for name in model.images if any(map(str.isspace, name))), None)
    if spaced is not None:
        raise TpsfmError(f"COLMAP's text format can't hold the space in '{spaced}'; use 'colmap-bin'")
    pycolmap.Reconstruction(folder).write_text(out)


def _write_nerfstudio(folder: Path, model: Model, out: Path, images: Path) -> None:
    write_nerfstudio(model, out, images)


def _write_points(folder: Path, model: Model, out: Path, images: Path) -> None:
    write_ply(model, out)


def write_nerfstudio(model: Model, out: Path, images: Path, masks: Path | None = None) -> None:
    """transforms.json and sparse_pc.ply, which name the photos below `images` and their masks, IMAGE.png below `masks`.

    Raises:
        TpsfmError: nerfstudio can't hold the cameras.
    """
    intrinsics = {key: _nerfstudio_intrinsics(camera) for key, camera in model.cameras.items()}
    frames = []
    for name, pose in model.images.items():
        transform = np.eye(4)
        transform[:3, :3] = pose.rotation.T @ _UPSIDE
        transform[:3, 3] = pose.center
        mask = None if masks is None else masks / f"{name}.png"
        frames.append(
            {
                "file_path": Path(os.path.relpath(images / name, out)).as_posix(),
                **({} if mask is None or not mask.exists() else {"mask_path": os.path.relpath(mask, out)}),
                **intrinsics[pose.camera_id],
                "transform_matrix": transform.tolist(),
            }
        )
    models = {values["camera_model"] for values in intrinsics.values()}
    if len(models) > 1:
        raise TpsfmError("nerfstudio can't mix fisheye and other cameras in one scene; use 'colmap-bin'")
    content = {"camera_model": models.pop(), "ply_file_path": "sparse_pc.ply", "frames": frames}
    write_ply(model, out / "sparse_pc.ply")
    (out / "transforms.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _nerfstudio_intrinsics(camera: Camera) -> dict:
    if camera.model not in _NERFSTUDIO:
        raise TpsfmError(f"nerfstudio has no camera model '{camera.model}'; reconstruct with 'OPENCV'")
    camera_model, distortion = _NERFSTUDIO[camera.model]
    matrix = camera.matrix
    return {
        "camera_model": camera_model,
        "w": camera.width,
        "h": camera.height,
        "fl_x": matrix[0, 0],
        "fl_y": matrix[1, 1],
        "cx": to_colmap(matrix[0, 2]),  # whose origin is nerfstudio's too
        "cy": to_colmap(matrix[1, 2]),
        **dict(zip(distortion, camera.params[len(camera.params) - len(distortion) :], strict=True)),
    }


def _write_bundler(folder: Path, model: Model, out: Path, images: Path) -> None:
    reconstruction = pycolmap.Reconstruction(folder)
    registered = sorted(
        (reconstruction.image(key) for key in reconstruction.reg_image_ids()), key=lambda image: image.name
    )
    index = {image.image_id: number for number, image in enumerate(registered)}
    points = [point for _, point in sorted(reconstruction.points3D.items())]

    lines = ["# Bundle file v0.3", f"{len(registered)} {len(points)}"]
    for image in registered:
        pose = image.cam_from_world()
        lines.append(_numbers(_bundler_intrinsics(model.cameras[image.camera_id])))
        lines += [_numbers(row) for row in _UPSIDE @ pose.rotation.matrix()]
        lines.append(_numbers(_UPSIDE @ pose.translation))
    for point in points:
        track = [f"{point.track.length()}"]
        for element in point.track.elements:
            image = reconstruction.image(element.image_id)
            principal = to_colmap(model.cameras[image.camera_id].matrix[:2, 2])
            x, y = image.points2D[element.point2D_idx].xy - principal
            track.append(f"{index[element.image_id]} {element.point2D_idx} {_numbers((x, -y))}")
        lines += [_numbers(point.xyz), " ".join(map(str, point.color)), " ".join(track)]
    (out / "bundle.out").write_text("\n".join(lines) + "\n")
    (out / "list.txt").write_text("".join(f"{image.name}\n" for image in registered))


def _bundler_intrinsics(camera: Camera) -> list[float]:
    """Focal length and two radial distortion parameters."""
    if camera.model not in _BUNDLER:
        raise TpsfmError(f"Bundler has no camera model '{camera.model}'; reconstruct with 'RADIAL'")
    focal = (camera.matrix[0, 0] + camera.matrix[1, 1]) / 2
    radial = [*camera.params[3:], 0.0, 0.0] if camera.model.endswith("RADIAL") else [0.0, 0.0]
    return [focal, *radial[:2]]


def _numbers(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


_WRITERS: dict[str, Callable] = {
    "colmap-bin": _write_binary,
    "colmap-txt": _write_text,
    "ply": _write_points,
    "nerfstudio": _write_nerfstudio,
    "bundler": _write_bundler,
}
EXPORT_FORMATS = (*_WRITERS, *WORLD_WRITERS)

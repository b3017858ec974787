"""Photos without distortion, and the map of their pinhole cameras, in the folders that other programs read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tpsfm.colmap.formats import write_nerfstudio
from tpsfm.colmap.loading import colmap_camera, pycolmap
from tpsfm.colmap.reader import read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera, Model
from tpsfm.io.atomic import replace_folder
from tpsfm.parallel import in_parallel
from tpsfm.photos import Masks, read_photo
from tpsfm.progress import Progress

UNDISTORT_TOOLS = ("colmap", "openmvs", "nerfstudio", "gaussian-splatting")

_SPARSE = {"gaussian-splatting": "sparse/0", "nerfstudio": "colmap/sparse/0"}  # of others: "sparse"
_PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE")
_JPEG = (".jpeg", ".jpg")
_WRITTEN = (*_JPEG, ".bmp", ".png", ".tif", ".tiff", ".webp")  # what the other programs read; others become PNG
_QUALITY = 95  # of JPEG


def undistort(
    model: str | Path,
    images: str | Path,
    output: str | Path,
    tool: str = "colmap",
    masks: str | Path | None = None,
    threads: int = -1,
    progress: Progress | None = None,
) -> Path:
    """Write the photos of a map as pinhole cameras would have taken them, and the map of these.

    Focal lengths, poses and points stay. Each photo is as large as it can be without a pixel that the lens didn't see
    (COLMAP's undistortion), has the name that it had (".png" is added where the format can't be written), and no EXIF:
    its pixels are as the map has them.

    | tool | the map | beside `images/` |
    |---|---|---|
    | colmap | `sparse/` | `stereo/`, for `colmap patch_match_stereo` and `stereo_fusion`; `masks/IMAGE.png` |
    | openmvs | `sparse/` | `masks/STEM.mask.png`, for `InterfaceCOLMAP -i` and `DensifyPointCloud --mask-path` |
    | gaussian-splatting | `sparse/0/` | `masks/IMAGE.png`, as its `convert.py` leaves a scene |
    | nerfstudio | `transforms.json`, `sparse_pc.ply`, `colmap/sparse/0/` | `masks/IMAGE.png`, named in the json |

    Args:
        model: folder of the map.
        images: folder of its photos.
        output: a new or empty folder; it appears when it is complete.
        tool: one of `UNDISTORT_TOOLS`.
        masks: folder of masks (see `Masks`), warped as their photos are.
        threads: -1 for all cores.

    Raises:
        TpsfmError: the tool is unknown, the map or a mask is damaged, a photo is gone or of another size than in the
            map, or `output` holds files or can't be written.
    """
    if tool not in UNDISTORT_TOOLS:
        raise TpsfmError(f"can't undistort for '{tool}'; there are: {', '.join(UNDISTORT_TOOLS)}")
    images, output = Path(images), Path(output)
    plain = read_model(model)
    _check(plain, images, output, tool, masks is not None)
    found = None if masks is None else Masks(Path(masks), images, list(plain.images))
    new = output.with_name(f"{output.name}.part")
    try:
        shutil.rmtree(new, ignore_errors=True)
        folder = new / _SPARSE.get(tool, "sparse")
        folder.mkdir(parents=True)
        _undistort_model(Path(model), plain, folder)
        warped = read_model(folder)  # COLMAP doesn't notice a full disk
        cameras = {name: plain.cameras[pose.camera_id] for name, pose in plain.images.items()}
        jobs = ((name, (name, camera, images, found, new, tool)) for name, camera in cameras.items())
        workers = threads if threads > 0 else os.cpu_count() or 1
        with (progress or Progress()).bar("undistortion", len(cameras)) as update:
            for done, _ in enumerate(in_parallel(_undistort_photo, jobs, workers), 1):
                update(done, len(cameras))
        if tool == "colmap":
            _write_stereo(list(warped.images), new / "stereo")
        elif tool == "nerfstudio":
            write_nerfstudio(warped, new, new / "images", None if found is None else new / "masks")
        replace_folder(new, output)
    except OSError as error:
        raise TpsfmError(f"can't write '{error.filename or output}': {error.strerror or error}") from None
    return output


def _check(model: Model, images: Path, output: Path, tool: str, masked: bool) -> None:
    """Whatever can be told before the work."""
    gone = [name for name in model.images if not (images / name).is_file()]
    if gone:
        raise TpsfmError(f"{len(gone)} of the map's {len(model.images)} photos are gone from {images}, {gone[0]} first")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise TpsfmError(f"{output} holds files already; name a new folder")
    stems = [Path(name).stem for name in model.images]
    if tool == "openmvs" and masked and len(set(stems)) < len(stems):
        raise TpsfmError("OpenMVS finds a mask by its photo's name without folder and suffix, and two photos share one")


def _undistort_model(folder: Path, model: Model, output: Path) -> None:
    """Write the model with pinhole cameras, and its observations where these show them."""
    reconstruction = pycolmap.Reconstruction(folder)
    pinholes = {key: _pinhole(camera) for key, camera in model.cameras.items()}
    for image in reconstruction.images.values():
        if image.num_points2D():
            pinhole = pinholes[image.camera_id]
            distorted = colmap_camera(model.cameras[image.camera_id])
            pixels = np.array([point.xy for point in image.points2D])
            rays: Any = distorted.cam_from_img(pixels)
            for point, (x, y) in zip(image.points2D, rays, strict=True):
                point.xy = np.array(
                    [
                        pinhole.focal_length_x * x + pinhole.principal_point_x,
                        pinhole.focal_length_y * y + pinhole.principal_point_y,
                    ]
                )
        image.name = _written(image.name)
    for key, pinhole in pinholes.items():
        camera = reconstruction.camera(key)
        camera.model, camera.width, camera.height = pinhole.model, pinhole.width, pinhole.height
        camera.params = pinhole.params.tolist()
    reconstruction.update_point_3d_errors()
    reconstruction.write_binary(output)


def _pinhole(camera: Camera) -> pycolmap.Camera:
    """COLMAP's pinhole camera of a photo that is undistorted."""
    return pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), colmap_camera(camera))


def _undistort_photo(name: str, camera: Camera, images: Path, masks: Masks | None, output: Path, tool: str) -> None:
    photo = read_photo(images / name, name)
    if photo.size != (camera.width, camera.height):
        raise TpsfmError(
            f"{images / name} is {photo.width}x{photo.height}, but {camera.width}x{camera.height} in the map;"
            " it is another photo: put that of the map back"
        )
    _save(_warp(photo.decode(), camera), output / "images" / _written(name))
    mask = None if masks is None else masks.read(photo)
    if mask is not None:
        warped = _warp(mask.astype(np.uint8) * 255, camera)
        file = f"{Path(_written(name)).stem}.mask.png" if tool == "openmvs" else f"{_written(name)}.png"
        _save((warped == 255).astype(np.uint8) * 255, output / "masks" / file)  # what is hidden in part is hidden


def _written(name: str) -> str:
    """The name of a photo that is undistorted."""
    return name if name.lower().endswith(_WRITTEN) else f"{name}.png"


def _warp(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    if pixels.shape[:2] != (camera.height, camera.width):  # very large photos are decoded reduced
        pixels = np.asarray(cv2.resize(pixels, (camera.width, camera.height), interpolation=cv2.INTER_CUBIC))
    if camera.model in _PINHOLES:  # bilinear interpolation would make its border black
        return pixels
    options = pycolmap.UndistortCameraOptions()
    bitmap, _ = pycolmap.undistort_image(options, pycolmap.Bitmap.from_array(pixels), colmap_camera(camera))
    return bitmap.to_array()


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in _JPEG:
        Image.fromarray(pixels).save(path, quality=_QUALITY, subsampling=0)
    else:
        Image.fromarray(pixels).save(path)


def _write_stereo(names: list[str], folder: Path) -> None:
    """COLMAP's folders for depth maps, and which photos they are made of: each with the 20 that share most with it."""
    for name in names:
        for kind in ("depth_maps", "normal_maps", "consistency_graphs"):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "patch-match.cfg").write_text("".join(f"{name}\n__auto__, 20\n" for name in names), encoding="utf-8")
    (folder / "fusion.cfg").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

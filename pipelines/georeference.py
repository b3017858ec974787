"""Maps in metres: what GPS positions of known error give, with and without priors in the adjustment.

    python -m pipelines.georeference --data DIR --out results/georeference

A flight over fields and a single strip are rendered (see `pipelines.flight`) and mapped once; their photos get GPS
positions with noise, and the error of camera centres and of check points on the ground is told in metres, without any
alignment to the truth. "bending" is what is left of the centres' errors after a similarity. The strip is flown twice: a
strip's turn about itself is told by photos that are level but for 2 degrees, and by a gimbal that is half a degree off.
Both have ground control points, too, with noise. With `--data`, lund_street has the GPS of its photos, whose residuals
are told, and the flight "copr" its ground control points: every second one aligns the map, the others measure it.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from PIL import Image

import tpsfm
from pipelines.common import Pipeline, Results
from pipelines.flight import FIELD, TEXELS, flight, ground, render_views
from tpsfm.colmap import read_model
from tpsfm.colmap.geodesy import from_enu, to_enu
from tpsfm.demo.dataset import FOCAL_35MM
from tpsfm.demo.rendering import View
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import load_poses
from tpsfm.geometry import Pose, Sim3
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction.georeference import Georeference
from tpsfm.reconstruction.world import origin_of, read_georeference

LUND = np.array([55.7047, 13.1910, 60.0])  # latitude, longitude, altitude of the rendered fields' middle
SIZE = (640, 480)
LIMITS: dict[str, Any] = {"max_keypoints": 2048, "max_size": 640, "seed": 0}
CHECKS = 25  # points on the ground
CONTROLS = 6  # and such that place the map
CONTROL_NOISE = (0.02, 0.5)  # of these: metres, pixels
GIMBAL_NOISE = 0.5  # degrees
SIGHTINGS = 10  # photos that show one, at most
UP = 1.5  # times the horizontal deviation
COLUMNS = {
    **{"photos": "d", "horizontal m": ".3f", "vertical m": ".3f", "bending m": ".3f", "checked": "d"},
    **{"check horizontal m": ".3f", "check vertical m": ".3f", "refused": ""},
}
REAL = {"used": "d", "of": "d", "horizontal m": ".2f", "vertical m": ".2f", "upright °": ".1f", "error px": ".3f"}
PACKET = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" drone-dji:GimbalRollDegree="{roll:+.2f}"
drone-dji:GimbalPitchDegree="{pitch:+.2f}"/></rdf:RDF></x:xmpmeta>"""


def strip(photos: int, seed: int = 0) -> dict[str, View]:
    """Cameras by file name, one after the other at 30 m, looking down, the top of the photo ahead."""
    rng = np.random.default_rng([seed, 3])
    focal = FOCAL_35MM / 36 * max(SIZE)
    K = np.array([[focal, 0, (SIZE[0] - 1) / 2], [0, focal, (SIZE[1] - 1) / 2], [0, 0, 1]])
    level = np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    views = {}
    for i, x in enumerate(np.linspace(-62.5, 62.5, photos)):
        tilt, _ = cv2.Rodrigues(rng.normal(0, np.radians(2), 3))
        centre = np.array([x, 0, 30]) + rng.normal(0, (0.3, 1, 1))
        views[f"{i:03}.jpg"] = View(K, tilt @ level, centre, SIZE)
    return views


def add_gimbal(images: Path, views: dict[str, View], seed: int = 0) -> None:
    """Write what a gimbal tells into the XMP of rendered photos."""
    rng = np.random.default_rng([seed, 7])
    for name, view in views.items():
        right, down, ahead = view.R[:, 2]  # up, in the camera's frame
        roll, pitch = np.degrees([np.arctan2(-right, -down), np.arcsin(ahead)]) + rng.normal(0, GIMBAL_NOISE, 2)
        with Image.open(images / name) as photo:
            photo.save(
                images / name, quality="keep", exif=photo.getexif(), xmp=PACKET.format(roll=roll, pitch=pitch).encode()
            )


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--data", type=click.Path(path_type=Path), help="Folder with eval/sfm/lund_street and eval/flights/copr.")
@click.option("--photos", type=click.IntRange(8), default=100, show_default=True, help="Of the flight.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Draws of the noise.")
@click.option("--threads", type=int, default=-1, show_default=True, help="-1: all cores.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the maps, results.json and results.md.")
def main(data: Path | None, photos: int, seeds: int, threads: int, out: Path | None) -> None:
    results = Results(out, "Maps in metres", LIMITS | {"photos": photos, "seeds": seeds})
    with tempfile.TemporaryDirectory() as folder:
        maps = out or Path(folder)
        rows = {}
        scenes = {"flight": flight(photos, SIZE), "strip": strip(40), "strip with gimbal": strip(40)}
        for name, views in scenes.items():
            if not (maps / name / "gt.json").exists():
                images = render_views(maps / name, views)
                if "gimbal" in name:
                    add_gimbal(images, views)
            build = partial(tpsfm.reconstruct, maps / name / "images", maps / name / "map", **LIMITS, threads=threads)
            for noise, by in ((2.0, "GPS of 2 m"), (0.03, "RTK of 0.03 m"), (0.0, f"{CONTROLS} control points")):
                for how in ("moved only", "adjusted", *(() if noise else ("adjusted, accuracy given",))):
                    label = f"{name}, {by}, {how}"
                    options: dict[str, Any] = {"position_priors": how != "moved only"}
                    if "given" in how:
                        options["gcp_accuracy"] = CONTROL_NOISE[0]
                    measure = partial(rendered, build, maps / name / "gt.json", noise, options, seeds)
                    rows[label] = results.row(label, measure)
        results.table(COLUMNS, rows)
        if data is not None:
            street = data / "eval/sfm/lund_street/images"
            real = {}
            for priors in (False, True):
                label = f"lund_street, {'adjusted' if priors else 'moved only'}"
                real[label] = results.row(label, partial(gps_tags, street, maps / "street", priors, threads))
            for half, which in enumerate(("1st, 3rd, ...", "2nd, 4th, ...")):
                for priors in (False, True):
                    label = f"copr, the {which} control points, {'adjusted' if priors else 'moved only'}"
                    measure = partial(control_points, data / "eval/flights/copr", maps / "copr", half, priors, threads)
                    real[label] = results.row(label, measure)
            results.table({**REAL, "check horizontal m": ".2f", "check vertical m": ".2f", "refused": ""}, real)
    results.write()


def rendered(build: partial, truth_file: Path, noise: float, options: dict[str, Any], seeds: int) -> dict:
    """One line of the first table: root mean squares over several draws of the noise of GPS, or of control points.

    Args:
        options: of `Georeference`.
    """
    workspace: Workspace = build(georeference="off")
    truth = load_poses(truth_file)
    images = read_model(workspace.sparse).images
    check = write_points(truth_file.with_name("check.txt"), truth, images, CHECKS)
    rows = []
    for seed in range(seeds):
        gps = gcp = None
        if noise:
            gps = write_positions(truth_file.with_name("gps.csv"), truth, noise, seed)
        else:
            gcp = write_points(truth_file.with_name("gcp.txt"), truth, images, CONTROLS, *CONTROL_NOISE, seed=seed)
        try:
            with workspace.locked():
                Georeference(gps=gps, gcp=gcp, gcp_check=check, **options).run(workspace)
        except TpsfmError as error:
            return {"refused": str(error)}
        rows.append(errors(workspace, truth))
    return {
        "photos": len(read_model(workspace.sparse).images),
        **{key: float(np.sqrt(np.mean([row[key] ** 2 for row in rows]))) for key in rows[0]},
        "checked": CHECKS,
    }


def errors(workspace: Workspace, truth: dict[str, Pose]) -> dict[str, float]:
    """Root mean square errors of a georeferenced map in metres."""
    content = read_georeference(workspace)
    assert content is not None
    images = read_model(workspace.sparse).images
    centers = np.array([pose.center for pose in images.values()])
    known = to_enu(from_enu(np.array([truth[name].center for name in images]), LUND), origin_of(content))
    off = centers - known
    bent = Sim3.fit(centers, known)(centers) - known
    return {
        "horizontal m": float(np.sqrt((off[:, :2] ** 2).sum(1).mean())),
        "vertical m": float(np.sqrt((off[:, 2] ** 2).mean())),
        "bending m": float(np.sqrt((bent**2).sum(1).mean())),
        "check horizontal m": content["check_rmse"]["horizontal"],
        "check vertical m": content["check_rmse"]["vertical"],
    }


def write_positions(path: Path, truth: dict[str, Pose], noise: float, seed: int) -> Path:
    """A CSV of the true positions with noise in metres."""
    centers = np.array([pose.center for pose in truth.values()])
    centers = centers + np.random.default_rng([seed, 4]).normal(0, noise, centers.shape) * (1, 1, UP)
    rows = [
        f"{name},{lat:.10f},{lon:.10f},{alt:.4f},{noise},{UP * noise}"
        for name, (lat, lon, alt) in zip(truth, from_enu(centers, LUND), strict=True)
    ]
    path.write_text("\n".join(["name,lat,lon,alt,std_horizontal,std_vertical", *rows]))
    return path


def write_points(
    path: Path,
    truth: dict[str, Pose],
    images: dict[str, Pose],
    count: int,
    noise: float = 0.0,
    pixel_noise: float = 0.0,
    seed: int = 0,
) -> Path:
    """Points on the ground below the photos, and where the photos show them, with noise in metres and in pixels."""
    relief, rng, random = ground()[1], np.random.default_rng([count, 5]), np.random.default_rng([seed, 6])
    focal = FOCAL_35MM / 36 * max(SIZE)
    centers = np.array([truth[name].center for name in images])
    low, high = np.percentile(centers[:, :2], (5, 95), axis=0)
    lines = ["EPSG:4326"]
    for number, (x, y) in enumerate(rng.uniform(low, high, (count, 2))):
        column, row = (x + FIELD[0] / 2) * TEXELS, (FIELD[1] / 2 - y) * TEXELS
        place = np.array([x, y, cv2.getRectSubPix(relief, (1, 1), (column, row))[0, 0]])
        lat, lon, alt = from_enu(place[None] + random.normal(0, 1, 3) * noise, LUND)[0]
        for name in sorted(images, key=lambda name: np.linalg.norm(truth[name].center[:2] - (x, y)))[:SIGHTINGS]:
            right, down, ahead = truth[name].rotation @ (place - truth[name].center)
            pixel = focal * np.array([right, down]) / ahead + (np.array(SIZE) - 1) / 2
            pixel = pixel + random.normal(0, 1, 2) * pixel_noise
            if ((pixel > 5) & (pixel < np.array(SIZE) - 5)).all():
                lines.append(f"{lon:.10f} {lat:.10f} {alt:.4f} {pixel[0]:.3f} {pixel[1]:.3f} {name} point{number}")
    path.write_text("\n".join(lines))
    return path


def gps_tags(images: Path, out: Path, priors: bool, threads: int) -> dict:
    """Residuals of the photos' own GPS."""
    workspace = tpsfm.reconstruct(images, out, position_priors=priors, threads=threads)
    return residuals(workspace)


def control_points(folder: Path, out: Path, half: int, priors: bool, threads: int) -> dict:
    """Residuals of every second control point, and of the others, which only measure."""
    header, *lines = (folder / "gcp_list.txt").read_text().splitlines()
    names = list(dict.fromkeys(line.split()[-1] for line in lines))
    workspace = tpsfm.reconstruct(folder / "images", out, threads=threads)
    files = []
    for part in (half, 1 - half):
        rows = [line for line in lines if line.split()[-1] in names[part::2]]
        files.append(out.with_name(f"{out.name}_{part}.txt"))
        files[-1].write_text("\n".join([header, *rows]))
    try:
        with workspace.locked():
            Georeference(gcp=files[0], gcp_check=files[1], position_priors=priors).run(workspace)
    except TpsfmError as error:
        return {"refused": str(error)}
    return residuals(workspace)


def residuals(workspace: Workspace) -> dict:
    """What georeference.json tells."""
    content = read_georeference(workspace)
    if content is None:
        return {"refused": "not georeferenced"}
    check = content.get("check_rmse", {})
    return {
        "used": sum(row["used"] for row in content["residuals"]),
        "of": len(content["residuals"]),
        "horizontal m": content["rmse"]["horizontal"],
        "vertical m": content["rmse"]["vertical"],
        "upright °": content.get("upright", {}).get("degrees"),
        "error px": float(read_model(workspace.sparse).errors.mean()),
        "check horizontal m": check.get("horizontal"),
        "check vertical m": check.get("vertical"),
    }


if __name__ == "__main__":
    main()

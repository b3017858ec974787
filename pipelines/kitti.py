"""Monocular visual odometry on KITTI with several features side by side.

    python -m pipelines.kitti --data DIR --sequence 00 --features tpr --features sift --features orb --out results/kitti

DIR holds KITTI's official layout: sequences/00/image_0/*.png and sequences/00/calib.txt, and poses/00.txt where the
truth is known. A folder with image_0/, calib.txt and poses.txt of its own is one sequence, named after the folder.
Each has two rows: with keypoints as they are detected, and aligned by the pixels around them, keyframe by keyframe.
The trajectory is written in KITTI's format to OUT/FEATURES/00.txt, or OUT/FEATURES-aligned/00.txt. Since one camera
can't observe the scale, RMSE, APE and RPE (from each frame to the next) are computed after an alignment with the true
trajectory, by a similarity for the whole sequence unless --alignment says otherwise. Frames per second exclude reading
the images.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import click
import cv2
import numpy as np

import tpsfm
from pipelines.common import Pipeline, Results, load
from pipelines.odometry import Odometry
from pipelines.plots import trajectories
from tpsfm.evaluation.trajectory import (
    ALIGNMENTS,
    absolute_errors,
    align_trajectory,
    read_trajectory,
    relative_errors,
    rmse,
    write_trajectory,
)
from tpsfm.features import Extractor, Features
from tpsfm.features.scaling import check_limits, enlarged, reduced
from tpsfm.geometry import Camera
from tpsfm.io.workspace import digest
from tpsfm.photos import list_images, read_image, read_photo

ALIGNED = ", aligned"  # after the name of features whose keypoints are aligned
COLUMNS = {
    **{"frames": "d", "lost": "d", "length m": ".0f", "RMSE m": ".3f", "APE m": ".3f", "APE max m": ".3f"},
    **{"RPE m": ".4f", "RPE deg": ".4f", "FPS": ".2f"},
}
# RMSE in metres, from the table of TPR (CVPR 2023), which doesn't name its alignment.
SEQUENCES = ("00", "01", "02", "04", "05", "06", "07", "08", "09", "10", "mean", "FPS")
PUBLISHED = {
    "ORB": (59.46, 610.35, 72.68, 19.26, 238.60, 83.46, 72.72, 66.06, 119.21, 63.52, 140.5, 20.6),
    "SuperPoint": (162.78, 123.34, 13.52, 1.06, 6.36, 2.05, 12.12, 8.66, 8.20, 5.10, 34.3, 6.5),
    "D2-Net": (10.44, 183.04, 105.33, 2.29, 14.58, 2.25, 10.72, 24.27, 29.62, 9.61, 39.22, 8.8),
    "R2D2": (49.62, 515.96, 60.14, 3.90, 123.05, 62.44, 53.84, 62.54, 73.30, 43.32, 104.8, 7.8),
    "SOSNet": (171.67, 309.83, 10.36, 0.47, 14.68, 4.07, 15.35, 10.75, 3.24, 7.67, 54.8, 6.3),
    "DISK": (32.77, 149.98, 18.67, 0.45, 5.97, 4.38, 12.88, 32.85, 4.33, 4.81, 26.7, 6.5),
    "paper's TR": (7.07, 164.39, 9.72, 0.23, 3.46, 2.12, 9.99, 7.42, 3.10, 3.72, 21.1, 6.2),
}


@dataclass(frozen=True)
class Sequence:
    """A sequence: its frames in order, the camera, and the file of its true poses or None."""

    name: str
    frames: list[Path]
    camera: Camera
    truth: Path | None


class ORB(Extractor):
    """ORB (Rublee et al., ICCV 2011) in OpenCV's settings.

    Its 256 bits become ±1/16, so that the cosine of two descriptors is 1 - 2 · (Hamming distance) / 256.
    """

    name = "orb"
    dim = 256
    ratio = 0.9  # of Euclidean distances, the roots of Hamming's

    def __init__(self, max_keypoints: int = 8192, max_size: int = 1600, device: str = "auto"):
        check_limits(max_keypoints, max_size)
        self.max_keypoints, self.max_size = max_keypoints, max_size

    def extract(self, image: np.ndarray, mask: np.ndarray | None = None) -> Features:
        grey, allowed = reduced(image, mask, self.max_size)
        allowed = None if allowed is None else allowed.astype(np.uint8)
        found, descriptors = cv2.ORB.create(self.max_keypoints).detectAndCompute(grey, allowed)
        if not found:
            return Features.empty(self.dim, image.shape[1::-1])
        scores = np.array([keypoint.response for keypoint in found], np.float32)
        signs = np.unpackbits(np.asarray(descriptors, np.uint8), axis=1).astype(np.float32) / 8 - 1 / 16
        order = np.argsort(-scores, kind="stable")
        features = Features(np.array([keypoint.pt for keypoint in found], np.float32), scores, signs, grey.shape[::-1])
        return enlarged(features.select(order), image, mask)

    @property
    def fingerprint(self) -> dict[str, str | int | float | None]:
        return {
            "name": self.name,
            "opencv": cv2.__version__,
            "max_keypoints": self.max_keypoints,
            "max_size": self.max_size,
        }


def sequences(data: Path, names: tuple[str, ...]) -> list[Sequence]:
    """The sequences of those names, or all below `data`.

    Raises:
        TpsfmError: something of the layout is missing.
    """
    if (data / "image_0").is_dir():
        return [_sequence(data.name, data, data / "poses.txt")]
    root = data / "sequences"
    if not root.is_dir():
        raise tpsfm.TpsfmError(f"neither {root} nor {data / 'image_0'} is a folder; --data wants KITTI's layout")
    names = names or tuple(sorted(folder.name for folder in root.iterdir() if folder.is_dir()))
    return [_sequence(name, root / name, data / "poses" / f"{name}.txt") for name in names]


def _sequence(name: str, folder: Path, truth: Path) -> Sequence:
    images = folder / "image_0"
    frames = [images / image for image in list_images(images)]
    info = read_photo(frames[0])
    try:
        numbers = (folder / "calib.txt").read_text().splitlines()[0].removeprefix("P0:").split()
        fx, _, cx, _, _, fy, cy = (float(number) for number in numbers[:7])
    except OSError as error:
        raise tpsfm.TpsfmError(f"can't read {folder / 'calib.txt'}: {error.strerror}") from None
    except (ValueError, IndexError):
        raise tpsfm.TpsfmError(f"{folder / 'calib.txt'} doesn't begin with the 12 numbers of P0") from None
    camera = Camera("PINHOLE", info.width, info.height, [fx, fy, cx, cy])
    return Sequence(name, frames, camera, truth if truth.exists() else None)


def drive(sequence: Sequence, extractor: Extractor, seed: int, aligned: bool) -> tuple[np.ndarray, dict]:
    """The trajectory [N, 4, 4] (camera to world), and the row's figures."""
    odometry = Odometry(sequence.camera, extractor.ratio, seed, aligned)
    seconds = 0.0
    label = f"{extractor.name}{ALIGNED * aligned} {sequence.name}"
    with click.progressbar(sequence.frames, label=label, file=sys.stderr) as frames:
        for frame in frames:
            image = read_image(frame)
            start = time.perf_counter()
            odometry.add(extractor.extract(image), image)
            seconds += time.perf_counter() - start
    row = {"frames": len(sequence.frames), "lost": odometry.lost, "FPS": len(sequence.frames) / seconds}
    return odometry.path(), row


def errors(path: np.ndarray, truth: np.ndarray, alignment: str) -> dict[str, float]:
    """Length and errors of a trajectory against the true one."""
    aligned = align_trajectory(truth, path, alignment)
    absolute = absolute_errors(truth, aligned)
    distances, degrees = relative_errors(truth, aligned)
    return {
        "length m": float(np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum()),
        "RMSE m": rmse(absolute),
        "APE m": float(absolute.mean()),
        "APE max m": float(absolute.max()),
        "RPE m": rmse(distances),
        "RPE deg": rmse(degrees),
    }


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of sequences/ and poses/.")
@click.option("--sequence", "names", multiple=True, help="Only this one, e.g. 00; may be repeated.")
@click.option("--features", multiple=True, default=("tpr", "sift", "orb"), show_default=True, help="May be repeated.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of tpr; the shipped ones if left out.")
@click.option("--max-keypoints", default=2000, show_default=True)
@click.option("--alignment", type=click.Choice(ALIGNMENTS), default="sim3", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of all results.")
def main(
    data: Path,
    names: tuple[str, ...],
    features: tuple[str, ...],
    weights: Path | None,
    max_keypoints: int,
    alignment: str,
    seed: int,
    out: Path,
) -> None:
    drives = sequences(data, names)
    results = Results(out, "KITTI visual odometry", {"alignment": alignment, "seed": seed})
    extractors = {
        name: ORB(max_keypoints) if name == "orb" else load(name, weights, max_keypoints=max_keypoints)
        for name in features
    }
    rows: dict[str, dict] = {}
    for sequence in drives:
        truth = read_trajectory(sequence.truth) if sequence.truth else None
        if truth is not None and len(truth) != len(sequence.frames):
            raise tpsfm.TpsfmError(f"{sequence.truth} has {len(truth)} poses for {len(sequence.frames)} frames")
        paths = {"truth": truth} if truth is not None else {}
        for (feature, extractor), aligned in product(extractors.items(), (False, True)):
            name = feature + ALIGNED * aligned
            file = out / name.replace(", ", "-") / f"{sequence.name}.txt"

            def compute(
                sequence: Sequence = sequence,
                extractor: Extractor = extractor,
                aligned: bool = aligned,
                truth: np.ndarray | None = truth,
                file: Path = file,
            ) -> dict:
                path, row = drive(sequence, extractor, seed, aligned)
                file.parent.mkdir(exist_ok=True)
                write_trajectory(file, path)
                return row | (errors(path, truth, alignment) if truth is not None else {})

            version = digest(extractor.fingerprint)[:8]
            rows[f"{name} {sequence.name}"] = results.row(f"{name} {version} {sequence.name}", compute)
            path = read_trajectory(file)
            paths[name] = path if truth is None else align_trajectory(truth, path, alignment)
        lines = {name: path[:, [0, 2], 3] for name, path in paths.items()}
        (out / f"{sequence.name}.svg").write_text(trajectories(lines, f"KITTI {sequence.name}", "m"))
    results.say(f"RMSE, APE and RPE after alignment '{alignment}' of each whole path:")
    results.table(COLUMNS, rows)
    text = "RMSE in metres, and FPS, as the paper prints them for the full sequences; not measured here:"
    results.published(text, SEQUENCES, ".2f", PUBLISHED)
    results.write()


if __name__ == "__main__":
    main()

"""Matching accuracy on homography sequences in the HPatches layout.

    python pipelines/hpatches.py --data DIR --features tpr --features sift

DIR holds one folder a sequence (`i_...` illumination, `v_...` viewpoint) with images 1 to 6 and H_1_2 to H_1_6.
MMA: full resolution, at most 5,000 keypoints, mutual nearest neighbours, mean over each sequence's pairs, then over
sequences. AUC: shorter side 480, 1,024 keypoints, MAGSAC 3 px, mean corner error, over all pairs.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np

import tpsfm
from tpsfm.evaluation.homography import corner_error, matching_accuracy
from tpsfm.evaluation.poses import pose_auc
from tpsfm.images import read_image
from tpsfm.matching import mutual_nearest

THRESHOLDS = np.arange(1, 11)
LONGEST = 1 << 14  # no photo is reduced
AUC_SIDE, AUC_KEYPOINTS = 480, 1024


def sequences(data: Path) -> list[Path]:
    """The folders that hold a sequence."""
    found = sorted(folder for folder in data.iterdir() if (folder / "H_1_2").exists()) if data.is_dir() else []
    if not found:
        raise tpsfm.TpsfmError(f"{data}: no sequence in the HPatches layout there (a folder with H_1_2)")
    return found


def pairs(folder: Path):
    """The first image, and the others with their homographies from it."""
    files = {path.stem: path for path in folder.iterdir() if path.suffix in {".png", ".ppm", ".jpg"}}
    first = read_image(files["1"])
    return first, [(read_image(files[str(i)]), np.loadtxt(folder / f"H_1_{i}")) for i in range(2, 7)]


def matched(first, second) -> tuple[np.ndarray, np.ndarray]:
    """The matched points of two images' features."""
    index = mutual_nearest(first.descriptors, second.descriptors)[0].astype(int)
    return first.keypoints[index[:, 0]], second.keypoints[index[:, 1]]


def shrunk(image: np.ndarray, homography: np.ndarray, scale0: float, scale1: float):
    """The second image made smaller, and the homography between the two smaller images."""
    grow = np.array([[1 / scale0, 0, 0.5 / scale0 - 0.5], [0, 1 / scale0, 0.5 / scale0 - 0.5], [0, 0, 1]])
    shrink = np.array([[scale1, 0, scale1 / 2 - 0.5], [0, scale1, scale1 / 2 - 0.5], [0, 0, 1]])
    return smaller(image, scale1), shrink @ homography @ grow


def smaller(image: np.ndarray, scale: float) -> np.ndarray:
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def evaluate(name: str, data: Path, weights: Path | None) -> dict:
    """Figures of one extractor by sequence."""
    own = {"weights": weights} if weights and name == "tpr" else {}
    large = tpsfm.load_extractor(name, max_keypoints=5000, max_size=LONGEST, **own)
    small = tpsfm.load_extractor(name, max_keypoints=AUC_KEYPOINTS, max_size=LONGEST, **own)
    figures = {}
    for folder in sequences(data):
        first, others = pairs(folder)
        features = large.extract(first)
        scale0 = AUC_SIDE / min(first.shape[:2])
        first_small = smaller(first, scale0)
        features_small = small.extract(first_small)
        accuracy, errors, counts = [], [], []
        for image, homography in others:
            points = matched(features, large.extract(image))
            counts.append((len(features), len(points[0])))
            accuracy.append(matching_accuracy(*points, homography, THRESHOLDS))
            image_small, homography_small = shrunk(image, homography, scale0, AUC_SIDE / min(image.shape[:2]))
            points = matched(features_small, small.extract(image_small))
            errors.append(corner_error(*points, homography_small, first_small.shape[1::-1]))
        figures[folder.name] = {
            "mma": np.mean(accuracy, 0),
            "errors": errors,
            "keypoints": np.mean(counts, 0)[0],
            "matches": np.mean(counts, 0)[1],
        }
    return figures


def row(title: str, figures: dict[str, dict]) -> str:
    """A line of the table: MMA at 1, 3, 5 px, illumination and viewpoint at 3 px, AUC at 1, 3, 5 px, counts."""

    def mma(threshold: int, kind: str = "") -> float:
        values = [f["mma"][threshold - 1] for n, f in figures.items() if n.startswith(kind)]
        return 100 * float(np.mean(values)) if values else float("nan")

    auc = 100 * np.array(pose_auc(np.concatenate([f["errors"] for f in figures.values()]), (1, 3, 5)))
    counts = [np.mean([f[what] for f in figures.values()]) for what in ("keypoints", "matches")]
    numbers = [mma(1), mma(3), mma(5), mma(3, "i_"), mma(3, "v_"), *auc]
    return f"| {title} | " + " | ".join([f"{x:.1f}" for x in numbers] + [f"{x:.0f}" for x in counts]) + " |"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of sequences.")
@click.option("--features", multiple=True, default=("tpr", "sift"), show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of tpr; the shipped ones if left out.")
@click.option("--each", is_flag=True, help="Also a line for each sequence.")
def main(data: Path, features: tuple[str, ...], weights: Path | None, each: bool) -> None:
    """Print the table."""
    print("| | MMA@1 | MMA@3 | MMA@5 | i@3 | v@3 | AUC@1 | AUC@3 | AUC@5 | keypoints | matches |")
    print("|" + "---|" * 11)
    for name in features:
        figures = evaluate(name, data, weights)
        print(row(name, figures), flush=True)
        if each:
            for sequence, own in figures.items():
                print(row(sequence, {sequence: own}), flush=True)


if __name__ == "__main__":
    main()

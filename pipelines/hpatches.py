"""Matching accuracy on homography sequences in the HPatches layout.

    python -m pipelines.hpatches --data DIR --features tpr --features sift --out results/hpatches

DIR holds one folder a sequence (`i_...` illumination, `v_...` viewpoint) with images 1 to 6 and H_1_2 to H_1_6.
MMA, features and matches: full resolution, at most 5,000 keypoints, mutual nearest neighbours, mean over each
sequence's five pairs (six images), then over sequences; the eight sequences of large images that D2-Net's protocol
leaves out are left out. Homography AUC: shorter side 480, 1,024 keypoints, MAGSAC 3 px, mean corner error, over all
pairs. A second table makes the estimates more exact: `polished` fits the homography once more, by least squares to its
inliers; `aligned` moves the matches by `tpsfm.align_matches` with it first, then estimates (1 px) and polishes again.
Repeatability and localisation error: of those 1,024 keypoints, at 3 px, in both directions, in what both show.
With --turned the other images are turned by the angle estimated on small copies, as `tpsfm reconstruct
--turned` does. Run again with the same --out, an interrupted run resumes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import cv2
import numpy as np

import tpsfm
from pipelines.common import Pipeline, Results, load
from pipelines.plots import curves, side_by_side
from tpsfm.alignment.matches import align_matches
from tpsfm.evaluation.homography import corner_error, estimate_homography, matching_accuracy, repeatability
from tpsfm.evaluation.poses import pose_auc
from tpsfm.features import Features
from tpsfm.features.upright import upright_features
from tpsfm.geometry import rescale_matrix
from tpsfm.io.workspace import digest
from tpsfm.matching.nearest import mutual_nearest
from tpsfm.photos import read_image
from tpsfm.reconstruction.previews import preview, relative_turn
from tpsfm.reconstruction.turns import rounded

THRESHOLDS = np.arange(1, 11)
AUC_THRESHOLDS = (1, 2, 3, 5)
LONGEST = 1 << 14  # no photo is reduced
KEYPOINTS = 5000
AUC_SIDE, AUC_KEYPOINTS = 480, 1024
WAYS = {"plain": "auc", "polished": "auc polished", "aligned": "auc aligned"}
FEW = 20  # where no more matches are aligned, all are kept
KINDS = {"all": "", "illumination": "i_", "viewpoint": "v_"}
LARGE = {
    *("i_contruction", "i_crownnight", "i_dc", "i_pencils", "i_whitebuilding"),
    *("v_artisans", "v_astronautis", "v_talent"),
}
# The paper's table: MMA@3, AUC@2, AUC@5.
PUBLISHED = {
    "SIFT": (50.1, 39.49, 49.57),
    "SuperPoint": (65.7, 44.08, 59.04),
    "R2D2": (72.1, 43.35, 64.17),
    "DISK": (77.2, 52.33, 69.80),
    "ALIKE": (70.5, 51.65, 69.04),
    "MTLDesc": (78.7, 55.02, 71.42),
    "PoSFeat": (75.34, 50.16, 69.23),
    "D2-Net": (40.3, 19.49, 37.78),
    "ASLFeat": (72.2, 50.10, 66.93),
    "TPR, VGG": (49.6, 24.46, 47.69),
    "TPR, DCN": (75.5, 52.33, 70.15),
    "TPR, TR": (79.8, 57.18, 73.00),
}


def sequences(data: Path) -> list[Path]:
    """The folders of the sequences that are evaluated."""
    folders = data.iterdir() if data.is_dir() else []
    found = sorted(folder for folder in folders if folder.name not in LARGE and (folder / "H_1_2").exists())
    if not found:
        raise tpsfm.TpsfmError(f"{data}: no sequence in the HPatches layout there (a folder with H_1_2)")
    return found


def read_sequence(folder: Path) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """The first image, and the five others with their homographies from the first."""
    files = {path.stem: path for path in folder.iterdir() if path.suffix in {".png", ".ppm", ".jpg"}}
    missing = [i for i in "123456" if i not in files]
    if missing:
        raise tpsfm.TpsfmError(f"{folder}: image {missing[0]} (png, ppm or jpg) is missing")
    try:
        homographies = [np.loadtxt(folder / f"H_1_{i}").reshape(3, 3) for i in range(2, 7)]
    except (OSError, ValueError) as error:
        raise tpsfm.TpsfmError(f"{folder}: H_1_2 to H_1_6 should hold 3x3 numbers each: {error}") from None
    return read_image(files["1"]), [(read_image(files[str(i)]), h) for i, h in enumerate(homographies, 2)]


def matched(first: Features, second: Features) -> tuple[np.ndarray, np.ndarray]:
    """The matched points of two images' features."""
    index = mutual_nearest(first.descriptors, second.descriptors)[0].astype(int)
    return first.keypoints[index[:, 0]], second.keypoints[index[:, 1]]


def smaller(image: np.ndarray) -> np.ndarray:
    """The image with its shorter side AUC_SIDE."""
    scale = AUC_SIDE / min(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def between_smaller(homography: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The homography between the smaller images of two images."""
    scale0, scale1 = (AUC_SIDE / min(image.shape[:2]) for image in (first, second))
    return rescale_matrix(scale1) @ homography @ rescale_matrix(1 / scale0)


def turns_of(extractor: tpsfm.Extractor, first: np.ndarray, others: list[np.ndarray]) -> list[int]:
    """By how many degrees each of the other images is turned to be seen as the first is."""
    shown = preview(extractor, first)
    relative = (relative_turn(shown, preview(extractor, other)) for other in others)
    return [rounded(degrees) if inliers else 0 for degrees, inliers in relative]


def measure(folder: Path, large: tpsfm.Extractor, small: tpsfm.Extractor, turn: bool = False) -> dict:
    """One sequence: MMA [10] and AUC [4] in per cent, and the means of the rest."""
    first, others = read_sequence(folder)
    features = large.extract(first)
    first_small = smaller(first)
    features_small = small.extract(first_small)
    counts, accuracy, matches, again = [len(features)], [], [], []
    errors: dict[str, list[float]] = {way: [] for way in WAYS}
    exact: dict[str, list[float]] = {way: [] for way in WAYS}
    seen = turns_of(small, first, [image for image, _ in others]) if turn else [0] * len(others)
    for (image, homography), degrees in zip(others, seen, strict=True):
        found = upright_features(large, image, None, 1, turn=degrees)
        points = matched(features, found)
        counts.append(len(found))
        matches.append(len(points[0]))
        accuracy.append(matching_accuracy(*points, homography, THRESHOLDS))
        image_small, homography = smaller(image), between_smaller(homography, first, image)
        found = upright_features(small, image_small, None, 1, turn=degrees)
        sizes = first_small.shape[1::-1], image_small.shape[1::-1]
        for way, (points, options) in refined(first_small, image_small, features_small, found).items():
            errors[way].append(corner_error(*points, homography, sizes[0], **options))
            exact[way].append(matching_accuracy(*points, homography, np.array([1.0]))[0])
        again.append(repeatability(features_small.keypoints, found.keypoints, homography, *sizes))
    repeated, localisation = np.array(again).T
    return {
        "mma": 100 * np.mean(accuracy, 0),
        **{name: 100 * np.array(pose_auc(np.array(errors[way]), AUC_THRESHOLDS)) for way, name in WAYS.items()},
        "exact": {way: 100 * np.mean(values) for way, values in exact.items()},
        "repeatability": 100 * repeated.mean(),
        "localisation": np.nanmean(localisation) if np.isfinite(localisation).any() else np.nan,
        "features": np.mean(counts),
        "matches": np.mean(matches),
    }


def refined(
    first: np.ndarray, second: np.ndarray, features0: tpsfm.Features, features1: tpsfm.Features
) -> dict[str, tuple[tuple[np.ndarray, np.ndarray], dict]]:
    """By each of `WAYS`: the matched points, and how the homography is estimated from them."""
    index = mutual_nearest(features0.descriptors, features1.descriptors)[0].astype(int)
    points = features0.keypoints[index[:, 0]], features1.keypoints[index[:, 1]]
    found = estimate_homography(*points, polish=True)
    ways: dict[str, tuple[tuple[np.ndarray, np.ndarray], dict]] = {
        "plain": (points, {}),
        "polished": (points, {"polish": True}),
    }
    ways["aligned"] = ways["polished"]
    if found is not None:
        aligned = align_matches(first, second, features0.keypoints, features1.keypoints, index, found)
        keep = aligned.found if aligned.found.sum() > FEW else np.ones(len(index), bool)
        ways["aligned"] = (aligned.keypoints0[keep], aligned.keypoints1[keep]), {"polish": True, "threshold": 1.0}
    return ways


def mean(rows: dict[str, dict], name: str, kind: str = "") -> np.ndarray | None:
    """The mean of a value over the sequences whose names start with `kind`; None if no sequence has the value."""
    values = [row[name] for sequence, row in rows.items() if sequence.startswith(kind) and row[name] is not None]
    return np.mean(values, 0) if values else None


def line(rows: dict[str, dict]) -> dict:
    """The table's line for one extractor's rows by sequence."""
    mma = {kind: mean(rows, "mma", start) for kind, start in KINDS.items()}
    auc = mean(rows, "auc")
    return {
        **{f"MMA@{t}": _at(mma["all"], t - 1) for t in (1, 3, 5, 10)},
        **{f"{kind} @3": _at(mma[kind], 2) for kind in ("illumination", "viewpoint")},
        **{f"AUC@{t}": _at(auc, i) for i, t in enumerate(AUC_THRESHOLDS)},
        "repeatability": mean(rows, "repeatability"),
        "localisation px": mean(rows, "localisation"),
        "features": mean(rows, "features"),
        "matches": mean(rows, "matches"),
    }


def exactness(rows: dict[str, dict], way: str) -> dict:
    """The second table's line for one extractor's rows by sequence."""
    auc = mean(rows, WAYS[way])
    return {
        "MMA@1 (480 px)": np.mean([row["exact"][way] for row in rows.values()]),
        **{f"AUC@{t}": _at(auc, i) for i, t in enumerate(AUC_THRESHOLDS)},
    }


def _at(values: np.ndarray | None, index: int) -> float | None:
    return None if values is None else float(values[index])


def figure(measured: dict[str, dict[str, dict]]) -> str:
    """MMA over the threshold: all sequences, illumination, viewpoint."""
    charts = []
    for kind, start in KINDS.items():
        means = {name: mean(rows, "mma", start) for name, rows in measured.items()}
        lines = {name: values for name, values in means.items() if values is not None}
        charts.append(curves(THRESHOLDS, lines, f"MMA, {kind}", "px", top=100))
    return side_by_side(charts)


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of sequences.")
@click.option("--features", multiple=True, default=("tpr", "sift"), show_default=True, help="May be repeated.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of tpr; the shipped ones if left out.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of results.json, results.md and mma.svg.")
@click.option("--each", is_flag=True, help="Also print a line for each sequence.")
@click.option("--turned", "turn", is_flag=True, help="Estimate and undo rotations.")
def main(data: Path, features: tuple[str, ...], weights: Path | None, out: Path | None, each: bool, turn: bool) -> None:
    folders = sequences(data)
    results = Results(out, "Homography sequences")
    measured: dict[str, dict[str, dict]] = {}
    for name in features:
        large = load(name, weights, max_keypoints=KEYPOINTS, max_size=LONGEST)
        small = load(name, weights, max_keypoints=AUC_KEYPOINTS, max_size=LONGEST)
        version = digest([large.fingerprint, small.fingerprint, turn])[:8]
        measured[name] = {
            folder.name: results.row(f"{name} {version} {folder.name}", partial(measure, folder, large, small, turn))
            for folder in folders
        }
    lines = {name: line(rows) for name, rows in measured.items()}
    if each:
        lines |= {f"{name} {s}": line({s: row}) for name, rows in measured.items() for s, row in rows.items()}
    columns = dict.fromkeys(next(iter(lines.values())), ".1f") | {"localisation px": ".2f"}
    illumination = sum(folder.name.startswith("i_") for folder in folders)
    results.say(f"{len(folders)} sequences, {illumination} of them illumination:")
    results.table(columns | {"features": ".0f", "matches": ".0f"}, lines)
    results.say("More exact estimates of the homographies (see --help):")
    results.table(
        dict.fromkeys(exactness(next(iter(measured.values())), "plain"), ".1f"),
        {f"{name}, {way}": exactness(rows, way) for name, rows in measured.items() for way in WAYS},
    )
    text = "Published in the paper, on the full set of 108 sequences; theirs, not measured here:"
    results.published(text, ("MMA@3", "AUC@2", "AUC@5"), ".2f", PUBLISHED)
    results.write()
    if out is not None:
        (out / "mma.svg").write_text(figure(measured))


if __name__ == "__main__":
    main()

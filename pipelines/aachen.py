"""Localize the queries of Aachen Day-Night (v1.0, v1.1), and write a submission for visuallocalization.net.

    python -m pipelines.aachen --data DIR --features tpr --pairs pairs-query-netvlad50.txt --out results/aachen

DIR holds the official layout: images/images_upright/{db,query,...} (or images_upright/), queries/day_time_queries_with
_intrinsics.txt and night_time_..., and the reference model: 3D-models/aachen_v_1_1/ (v1.1), 3D-models/aachen_v_1/ or
3D-models/aachen_cvpr2018_db.nvm with database_intrinsics.txt (v1.0). The reference gives poses, intrinsics and which
images share points; those pairs are matched, and new points triangulated. Queries are matched with the images in the
file --pairs (rows "query image", the best first, as hloc writes them), else with those retrieved by our own global
descriptors. OUT/FEATURES/submission.txt is the file to submit. Where --truth gives poses in that same format, accuracy
is the share of the queries within both thresholds, without alignment; a query without a pose counts as wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np

from pipelines.aachen_data import MODELS, Dataset, open_dataset, read_retrieved, read_truth, to_numbers, to_pose
from pipelines.chains import LIMITS, Limits, map_known
from pipelines.common import Pipeline, Results, weights_version
from tpsfm.cli.options import options
from tpsfm.evaluation.localization import accuracy
from tpsfm.geometry import Pose, rotation_angle
from tpsfm.io.workspace import Workspace
from tpsfm.localization import Map
from tpsfm.localization.queries import Query
from tpsfm.pairs import selection as pairs
from tpsfm.photos import file_digest
from tpsfm.reconstruction import Stages

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
WITHIN = {f"{metres} m, {degrees}°": (metres, degrees) for metres, degrees in ((0.25, 2), (0.5, 5), (5, 10))}
# Per cent, from the table of TPR (CVPR 2023). It names neither version nor light; all of its numbers are
# multiples of 1/191, and 191 is the number of v1.1's night queries.
PUBLISHED = {
    "RootSIFT": (53.4, 62.3, 72.3),
    "SuperPoint": (68.1, 85.9, 94.8),
    "D2-Net": (67.0, 86.4, 97.4),
    "R2D2": (70.7, 85.3, 96.9),
    "ASLFeat": (71.2, 85.9, 96.9),
    "DISK": (72.8, 86.4, 97.4),
    "MTLDesc": (74.3, 86.9, 96.9),
    "paper's TR": (74.3, 89.0, 98.4),
}


def build_map(root: Path, data: Dataset, stages: Stages, neighbours: int) -> Workspace:
    """The map of the reference's images with the features of `stages`; finished stages are kept."""
    return map_known(
        root,
        data.images,
        data.model,
        lambda names: pairs.from_covisibility({name: data.seen[name] for name in names}, neighbours),
        stages,
    )


def localize(map: Map, images: Path, query: Query, retrieved: list[str] | None) -> dict:
    """A query's row: its pose as seven numbers, or the reason for none."""
    found = map.localize(images / query.name, query.camera, query.name, retrieved)
    row = {"inliers": found.inliers, "seconds": sum(found.seconds.values()), "reason": found.reason}
    return row if found.pose is None else row | {"pose": to_numbers(found.pose)}


def summary(rows: Mapping[str, dict], truth: Mapping[str, Pose]) -> dict:
    """The table's line for the rows of queries by name."""
    line = {
        "queries": len(rows),
        "localized": sum("pose" in row for row in rows.values()),
        "inliers": float(np.median([row["inliers"] for row in rows.values()])),
        "s a query": float(np.median([row["seconds"] for row in rows.values()])),
    }
    errors = [_errors(row, truth[Path(name).name]) for name, row in rows.items() if Path(name).name in truth]
    if not errors:
        return line
    position, rotation = np.array(errors).T
    shares = accuracy(position, rotation, list(WITHIN.values()))
    line |= {name: 100 * share for name, share in zip(WITHIN, shares, strict=True)}
    return line | {"with truth": len(errors), "median m": np.median(position), "median °": np.median(rotation)}


def _errors(row: dict, truth: Pose) -> tuple[float, float]:
    if "pose" not in row:
        return np.inf, np.inf
    pose = to_pose(row["pose"])
    angle = rotation_angle(truth.rotation @ pose.rotation.T)
    return float(np.linalg.norm(pose.center - truth.center)), float(np.degrees(angle))


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the dataset.")
@click.option("--version", type=click.Choice(list(MODELS)), help="The newest there if left out.")
@click.option("--features", multiple=True, default=("tpr",), show_default=True, help="May be repeated.")
@click.option("--pairs", "pairs_file", type=FILE, help='Rows "query image", e.g. NetVLAD\'s.')
@click.option("--truth", type=FILE, help="Rows 'name qw qx qy qz tx ty tz' of queries.")
@click.option("--retrieved", default=50, show_default=True, help="Images to match a query with, without --pairs.")
@click.option("--covisible", default=20, show_default=True, help="Images to match each one of the map with.")
@options(LIMITS)
@click.option("--threads", default=-1, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of all results.")
def main(
    data: Path,
    version: str | None,
    features: tuple[str, ...],
    pairs_file: Path | None,
    truth: Path | None,
    retrieved: int,
    covisible: int,
    out: Path,
    **limits: Any,
) -> None:
    dataset = open_dataset(data, version)
    chosen = read_retrieved(pairs_file, dataset) if pairs_file else {}
    poses = read_truth(truth) if truth else {}
    depends = {"version": dataset.version, "retrieved": file_digest(pairs_file)[:8] if pairs_file else retrieved}
    depends |= {"covisible": covisible, **limits, "weights": weights_version(limits["weights"])}
    del depends["threads"]  # no result depends on them
    results = Results(out, f"Aachen Day-Night v{dataset.version}", depends)
    lines: dict[str, dict] = {}
    for name in features:

        @cache
        def load(name: str = name) -> Map:
            stages = Stages.of(**Limits(**limits).options(name))
            workspace = build_map(out / name / "map", dataset, stages, covisible)
            return Map(workspace.root, top_k=retrieved)

        found: dict[str, dict] = {}
        for light, queries in dataset.queries.items():
            rows = {}
            with click.progressbar(queries, label=f"{name}, {light}", file=sys.stderr) as bar:
                for query in bar:

                    def compute(query: Query = query, load: Callable[[], Map] = load) -> dict:
                        return localize(load(), dataset.images, query, chosen.get(query.name))

                    rows[query.name] = results.row(f"{name} {query.name}", compute)
            lines[f"{name}, {light}"] = summary(rows, poses)
            found |= rows
        numbers = {Path(query).name: row["pose"] for query, row in found.items() if "pose" in row}
        submission = "".join(" ".join([query, *map(repr, pose)]) + "\n" for query, pose in numbers.items())
        (out / name / "submission.txt").write_text(submission)
    results.table({"queries": "d", "localized": "d", "inliers": ".0f", "s a query": ".2f"}, lines)
    if truth is not None:
        results.say(f"Accuracy in % against {truth.name}, without any alignment:")
        results.table({"with truth": "d", **dict.fromkeys(WITHIN, ".1f"), "median m": ".3f", "median °": ".3f"}, lines)
    results.published("As the paper prints them; not measured here:", list(WITHIN), ".1f", PUBLISHED)
    results.write()


if __name__ == "__main__":
    main()

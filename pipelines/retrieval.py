"""Image retrieval: recall of truly overlapping photos by day and by synthetic night, and an index of 100,000 images.

    python -m pipelines.retrieval --data DIR --distractors PHOTOS --out results/retrieval

DIR holds sets SCENE/images/, some with SCENE/gt.json (R, world to camera, C, the centre, and K of each photo). The
photos of all sets are in one pool, and each is searched for among all others. Two photos overlap if they share 10 % of
the points seen by the one that sees fewer: of the points of their set's map (covisibility), or, where the cameras are
known, of the points in their frusta. At night the query is the darkened photo; the pool stays by day. "hit" is recall
at k: the share of queries with an overlapping photo among the first k; "share" is the share of the overlapping photos
(at most k) found there.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import tpsfm
from pipelines.chains import LIMITS, Limits
from pipelines.common import Pipeline, Results, in_process, peak_memory, weights_version
from tpsfm.cli.options import options
from tpsfm.colmap import read_model, read_observations
from tpsfm.evaluation.localization import align_map
from tpsfm.evaluation.night import night
from tpsfm.evaluation.poses import load_poses
from tpsfm.evaluation.retrieval import in_view, overlapping, recall, seen_points
from tpsfm.geometry import Model
from tpsfm.photos import list_images, read_image

AT = (1, 5, 20)
SIZES = (10, 100, 1_000, 10_000, 100_000)
Photo = tuple[str, str]  # set and name
COLUMNS = {"queries": "d"} | {f"{what}@{k}": ".1f" for what in ("hit", "share") for k in AT}


def by_cameras(truth_file: Path, model: Model) -> dict[str, np.ndarray]:
    """Which of the map's points lie in the frustum of each known camera, after alignment."""
    truth = load_poses(truth_file)
    points = align_map(truth, model.images)(model.points)
    seen = {}
    for name in sorted(truth.keys() & model.images.keys()):
        K = np.array(json.loads(truth_file.read_text())[name]["K"])
        camera = model.cameras[model.images[name].camera_id]
        seen[name] = in_view(points, truth[name].rotation, truth[name].center, K, (camera.width, camera.height))
    return seen


def pool(data: Path, distractors: Path | None, maps: Path, limits: Limits) -> tuple[dict, dict, dict, dict]:
    """All photos that are searched.

    Returns:
        Global descriptors by (set, photo) by day, with the distractors, and by night; the true overlaps by
        covisibility and by known cameras.
    """
    from tpsfm.features.store import FeatureStore
    from tpsfm.features.tpr import TPR

    shared: dict[str, Any] = {
        "max_keypoints": limits.max_keypoints,
        "max_size": limits.max_size,
        "weights": limits.weights,
    }
    extractor = tpsfm.load_extractor("tpr", **shared, **TPR.map_options)  # as `reconstruct` and `localize` extract
    if extractor.vocabulary is None:
        raise tpsfm.TpsfmError(f"{limits.weights}: these weights have no vocabulary for global descriptors")
    describe = extractor.vocabulary.describe
    day: dict[Photo, np.ndarray] = {}
    dark: dict[Photo, np.ndarray] = {}
    covisible: dict[Photo, set[Photo]] = {}
    cameras: dict[Photo, set[Photo]] = {}
    scenes = sorted(path.parent for path in data.glob("*/images"))
    if not scenes:
        raise tpsfm.TpsfmError(f"{data}: no set with images/ there")
    for scene in scenes:
        workspace = tpsfm.reconstruct(scene / "images", maps / scene.name, **shared)
        tracks = {name: rows[rows >= 0] for name, (_, rows) in read_observations(workspace.sparse).items()}
        truths = [(covisible, seen_points(tracks))]
        if (scene / "gt.json").exists():
            truths.append((cameras, by_cameras(scene / "gt.json", read_model(workspace.sparse))))
        for truth, seen in truths:
            for name, others in overlapping(seen).items():
                truth[scene.name, name] = {(scene.name, other) for other in others}
        with FeatureStore(workspace.features) as store:
            for seed, name in enumerate(list_images(scene / "images")):
                day[scene.name, name] = describe(store.read(name).descriptors)
                features = extractor.extract(night(read_image(scene / "images" / name), seed))
                dark[scene.name, name] = describe(features.descriptors)
    if distractors is not None:
        for name in list_images(distractors):
            features = extractor.extract(read_image(distractors / name))
            day["", name] = describe(features.descriptors)
    return day, dark, covisible, cameras


def searched(queries: dict, day: dict, truth: dict) -> dict:
    """Recall of the queries with overlapping photos, each searched for among all photos but itself."""
    from tpsfm.retrieval.index import Index

    index = Index()
    index.add(list(day), np.stack(list(day.values())))
    names = list(truth)
    rows, _ = index.search(np.stack([queries[name] for name in names]), max(AT) + 1)
    found = {
        name: [index.names[i] for i in row if index.names[i] != name] for name, row in zip(names, rows, strict=True)
    }
    line: dict[str, float] = {"queries": sum(bool(others) for others in truth.values())}
    for k in AT:
        hits, share = recall(found, truth, k)
        line |= {f"hit@{k}": 100 * hits, f"share@{k}": 100 * share}
    return line


def recalls(data: Path, distractors: Path | None, maps: Path, limits: Limits) -> dict:
    """Lines of the table."""
    day, dark, covisible, cameras = pool(data, distractors, maps, limits)
    lines = {}
    for by, truth in (("covisibility", covisible), ("known cameras", cameras)):
        for light, queries in (("day", day), ("night", dark)) if truth else ():
            lines[f"{light}, by {by}"] = searched(queries, day, truth)
    return {"pool": len(day), "numbers": len(next(iter(day.values()))), "lines": lines}


def index_of(size: int, dim: int, seed: int = 0) -> dict:
    """Build an index of random unit vectors and search it."""
    from tpsfm.retrieval.index import CHUNK, Index

    rng = np.random.default_rng(seed)

    def batch(count: int) -> np.ndarray:
        vectors = rng.standard_normal((count, dim), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    before = peak_memory()
    index, added = Index(), 0.0
    for start in range(0, size, CHUNK // 4):
        vectors = batch(min(CHUNK // 4, size - start))
        begin = time.perf_counter()
        index.add([f"{start + i:06d}" for i in range(len(vectors))], vectors)
        added += time.perf_counter() - begin
    queries = batch(100)
    seconds = []
    for query in queries[:5]:
        begin = time.perf_counter()
        index.search(query[None], 20)
        seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    index.search(queries, 20)
    return {
        "index s": added,
        "one query s": float(np.median(seconds)),
        "100 queries s": time.perf_counter() - begin,
        "peak MiB": peak_memory(),
        "before MiB": before,
        "bytes an image": index.nbytes / size,
    }


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of sets.")
@click.option("--distractors", type=click.Path(path_type=Path), help="Folder of photos of other places for the pool.")
@options(LIMITS)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/retrieval"), show_default=True)
def main(data: Path, distractors: Path | None, out: Path, **limited: Any) -> None:
    limits = Limits(**limited)
    results = Results(
        out, "Retrieval", limited | {"weights": weights_version(limits.weights), "distractors": str(distractors)}
    )
    row = results.row("recall", lambda: recalls(data, distractors, out / "maps", limits))
    results.say(f"{row['pool']} photos in the pool, global descriptors of {row['numbers']} numbers.")
    results.table(COLUMNS, row["lines"])
    sizes = {}
    for size in SIZES:

        def compute(size: int = size) -> dict:
            return in_process(index_of, size, row["numbers"])[0]

        sizes[f"{size:,} images"] = results.row(f"index {size}", compute)
    results.table(
        {
            "index s": ".2f",
            "one query s": ".4f",
            "100 queries s": ".3f",
            "peak MiB": ".0f",
            "before MiB": ".0f",
            "bytes an image": ",.0f",
        },
        sizes,
    )
    results.write()


if __name__ == "__main__":
    main()

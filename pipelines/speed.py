"""Time and memory of extraction, matching, the store and the whole chain, beside other software in the same run.

    python -m pipelines.speed --images DIR --repeat 3 --out results/speed

Each measurement runs in a process of its own, ours and theirs in turn, `--repeat` times; medians are printed. A ratio
is how many times as fast ours is: the median over the repetitions. Extraction is compared with OpenCV's SIFT at the
same limit of keypoints; matching (mutual nearest neighbours of the same descriptors, all pairs of four images) with
OpenCV's brute force, faiss and COLMAP's matcher (an approximate search); the store with an .npz an image; the chain
with COLMAP's own (SIFT on the CPU, exhaustive, incremental) at the same limits.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import click

import tpsfm
from pipelines import speed_parts as parts
from pipelines.chains import STAGES, Limits, reconstruct
from pipelines.common import Pipeline, Results, in_process, weights_version
from tpsfm.photos import list_images

PARTS = ("extraction", "matching", "store", "chain")
Size = int | tuple[int, int]
# (width, height) or the longer side, threads (None: as told), limit of keypoints
EXTRACTIONS: dict[str, tuple[Size, int | None, int]] = {
    "640x480, 1 thread": ((640, 480), 1, 1024),
    "640x480": ((640, 480), None, 1024),
    "1600 px": (1600, None, 8192),
}
KEYPOINTS = (1024, 2048, 4096, 8192)


def medians(runs: list[dict[str, dict]], ours: str, rate: str | None = None) -> dict:
    """Medians over runs {method: {value: number}} as "method value", and "ratio method" of ours to each other's.

    `rate` names what is compared, a speed; the ratio of times, where it is None, is theirs to ours of "whole s".
    """
    row = {
        f"{method} {name}": statistics.median(run[method][name] for run in runs)
        for method, values in runs[0].items()
        for name in values
    }
    for method in runs[0]:
        if method != ours:
            first, second, name = (ours, method, rate) if rate else (method, ours, "whole s")
            row[f"ratio {method}"] = statistics.median(run[first][name] / run[second][name] for run in runs)
    return row


def extraction(
    features: str, images: list[Path], size: int | tuple[int, int], threads: int, keypoints: int, weights: Path | None
) -> dict:
    """Images a second, keypoints an image and peak memory, ours and OpenCV's."""
    found = {}
    for method in (features, "SIFT"):
        (rate, count), peak = in_process(parts.extract, method, images, size, threads, keypoints, weights)
        found[method] = {"images/s": rate, "keypoints": count, "peak MiB": peak}
    return found


def matching(keypoints: int, threads: int) -> dict:
    """Pairs a second and peak memory of each matcher."""
    found = {}
    for method in parts.MATCHERS:
        rate, peak = in_process(parts.match, method, keypoints, threads)
        found[method] = {"pairs/s": rate, "peak MiB": peak}
    return found


def chain(features: str, images: Path, limits: Limits) -> dict:
    """Seconds by stage, of the whole process, and peak memory, ours and COLMAP's."""
    found = {}
    for method in (features, "colmap"):
        with tempfile.TemporaryDirectory() as folder:
            seconds, peak = in_process(timed_chain, method, images, Path(folder), limits)
        found[method] = {**{f"{name} s": value for name, value in seconds.items()}, "peak MiB": peak}
    return found


def timed_chain(features: str, images: Path, out: Path, limits: Limits) -> dict[str, float]:
    """Seconds by stage and of the whole, imports and report included."""
    start = time.perf_counter()
    _, seconds = reconstruct(features, images, out, limits)
    return {**seconds, "whole": time.perf_counter() - start}


@click.command(cls=Pipeline, help=__doc__.splitlines()[0])
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Folder of photos.")
@click.option("--part", "chosen", type=click.Choice(PARTS), multiple=True, help="Only this; may be repeated.")
@click.option("--features", multiple=True, default=("tpr",), show_default=True, help="May be repeated.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of tpr; the shipped ones if left out.")
@click.option("--max-keypoints", default=8192, show_default=True, help="Of the chain.")
@click.option("--max-size", default=1600, show_default=True, help="Of the chain.")
@click.option("--threads", default=2, show_default=True)
@click.option("--repeat", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of results.json and results.md.")
def main(
    images: Path,
    chosen: tuple[str, ...],
    features: tuple[str, ...],
    weights: Path | None,
    max_keypoints: int,
    max_size: int,
    threads: int,
    repeat: int,
    out: Path | None,
) -> None:
    if not images.is_dir():
        raise tpsfm.TpsfmError(f"no folder of photos '{images}'")
    photos = [images / name for name in list_images(images)]
    limits = Limits(max_keypoints, max_size, threads, 0, weights)
    options: dict[str, int | str] = {"photos": len(photos), "max_keypoints": max_keypoints, "max_size": max_size}
    options |= {"threads": threads, "repeat": repeat, "weights": weights_version(weights)}
    results = Results(out, "Speed", options)

    def show(title: str, jobs: Mapping[str, Callable[[], dict]], ours: str, rate: str | None, columns: dict) -> None:
        def measure(job: Callable[[], dict]) -> dict:
            return medians([job() for _ in range(repeat)], ours, rate)

        rows = {name: results.row(f"{title}, {ours}, {name}", partial(measure, job)) for name, job in jobs.items()}
        results.say(f"## {title}, {ours}")
        results.table(columns, rows)

    chosen = chosen or PARTS
    for name in features if "extraction" in chosen else ():
        jobs = {
            case: partial(extraction, name, photos, size, fixed or threads, keypoints, weights)
            for case, (size, fixed, keypoints) in EXTRACTIONS.items()
        }
        columns = {f"{m} {value}": style for value, style in parts.EXTRACTION_COLUMNS.items() for m in (name, "SIFT")}
        show("extraction", jobs, name, "images/s", columns | {"ratio SIFT": ".2f"})
    if "matching" in chosen:
        jobs = {f"{n} keypoints": partial(matching, n, threads) for n in KEYPOINTS}
        columns = {f"{m} {value}": style for value, style in parts.MATCHING_COLUMNS.items() for m in parts.MATCHERS}
        ratios = {f"ratio {method}": ".2f" for method in parts.MATCHERS if method != "tpsfm"}
        show("matching", jobs, "tpsfm", "pairs/s", columns | ratios)
    if "store" in chosen:
        columns = {f"{m} {what}": ".0f" for what in ("MB/s", "MB") for m in ("tpsfm", "npz")} | {"ratio npz": ".2f"}
        jobs = {what: partial(parts.store, what) for what in ("write", "read")}
        show("store", jobs, "tpsfm", "MB/s", columns)
    for name in features if "chain" in chosen else ():
        names = [*(f"{stage} s" for stage in STAGES), "whole s", "peak MiB"]
        columns = {f"{m} {value}": ".1f" for value in names for m in (name, "colmap")} | {"ratio colmap": ".2f"}
        show("chain", {f"{len(photos)} photos": partial(chain, name, images, limits)}, name, None, columns)
    results.write()


if __name__ == "__main__":
    main()

"""Our whole chain against pycolmap's own (CPU SIFT, exhaustive, incremental) in one run, stage by stage.

    python pipelines/speed.py --images DIR --max-keypoints 8192 --max-size 1600 --threads 2

Same photos, same limits, same threads; each chain in a process of its own, one after the other, the whole `--repeat`
times in turn; medians and ratios are printed.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import click

STAGES = ("features", "matches and geometry", "map")


def ours(images: Path, keypoints: int, size: int, threads: int) -> dict[str, float]:
    """Seconds by stage of `tpsfm.reconstruct`."""
    import tpsfm

    with tempfile.TemporaryDirectory() as folder:
        workspace = tpsfm.reconstruct(images, folder, max_keypoints=keypoints, max_size=size, threads=threads)
        seconds = {name: stage["seconds"] for name, stage in workspace.manifest["stages"].items()}
    middle = seconds["pairs"] + seconds["match"] + seconds["verify"]
    return dict(zip(STAGES, (seconds["extract"], middle, seconds["map"]), strict=True))


def colmaps(images: Path, keypoints: int, size: int, threads: int) -> dict[str, float]:
    """Seconds by stage of pycolmap's chain."""
    import zlib  # noqa: F401  before pycolmap

    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.ERROR
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads = threads
    extraction.max_image_size = size
    extraction.sift.max_num_features = keypoints
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database.db"
        marks = [time.perf_counter()]
        pycolmap.extract_features(database, images, extraction_options=extraction, device=pycolmap.Device.cpu)
        marks.append(time.perf_counter())
        pycolmap.match_exhaustive(database, matching_options=matching, device=pycolmap.Device.cpu)
        marks.append(time.perf_counter())
        pycolmap.incremental_mapping(
            database, images, folder, options={"num_threads": threads, "mapper": {"num_threads": threads}}
        )
        marks.append(time.perf_counter())
    return {name: after - before for name, before, after in zip(STAGES, marks, marks[1:], strict=False)}


def measured(connection, function, *arguments) -> None:
    """Run a chain and send back its seconds, wall time and peak memory (MiB)."""
    start = time.perf_counter()
    seconds = function(*arguments)
    wall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    connection.send({**seconds, "whole": wall, "peak MiB": peak})


def in_process(function, *arguments) -> dict[str, float]:
    """`measured` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=measured, args=(send, function, *arguments))
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        raise click.ClickException(f"the chain '{function.__name__}' failed; its error stands above") from None
    finally:
        process.join()


@click.command()
@click.option("--images", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--max-keypoints", default=8192, show_default=True)
@click.option("--max-size", default=1600, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeat", default=1, show_default=True)
@click.option("--json", "json_", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(images: Path, max_keypoints: int, max_size: int, threads: int, repeat: int, json_: Path | None) -> None:
    """Print seconds and ratios."""
    limits = (images, max_keypoints, max_size, threads)
    runs = [(in_process(ours, *limits), in_process(colmaps, *limits)) for _ in range(repeat)]
    print("| | tpsfm | pycolmap | ratio |\n|---|---|---|---|")
    for name in (*STAGES, "whole", "peak MiB"):
        mine, theirs = (statistics.median(run[i][name] for run in runs) for i in (0, 1))
        ratio = statistics.median(run[0][name] / run[1][name] for run in runs)
        print(f"| {name} | {mine:.1f} | {theirs:.1f} | {ratio:.2f} |")
    if json_ is not None:
        json_.write_text(json.dumps([{"tpsfm": a, "pycolmap": b} for a, b in runs], indent=1))


if __name__ == "__main__":
    main()

"""Damaged and odd inputs: one clear line for each, and nothing lost.

30 of them are tried by default; TPSFM_MUTATIONS=300 tries so many, TPSFM_MUTATIONS_SEED others.
"""

import logging
import os
import shutil
import signal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tpr.weights import shipped_weights

import tpsfm
from tests.support import mutations
from tests.support.mutations import pick
from tpsfm.cli import main

COUNT = int(os.environ.get("TPSFM_MUTATIONS", 30))
SEED = int(os.environ.get("TPSFM_MUTATIONS_SEED", 14))
SECONDS = 120  # after which a command counts as hanging
SMALL = ["--features", "sift", "--max-size", 160, "--threads", 1, "--no-turned"]


@pytest.fixture(scope="module")
def base(courtyard, tmp_path_factory) -> Path:
    """Six small photos and their map, three smaller ones, masks, and lists of all kinds."""
    folder = tmp_path_factory.mktemp("mutated")
    photos = sorted((courtyard / "images").iterdir())[:6]
    for name, size, some in (("photos", (320, 240), photos), ("few", (160, 120), photos[:3])):
        (folder / name).mkdir()
        for path in some:
            with Image.open(path) as image:
                image.resize(size).save(folder / name / path.name, quality=95, exif=image.getexif())
    (folder / "masks").mkdir()
    for path in photos[:3]:
        Image.fromarray(np.full((120, 160), 255, np.uint8)).save(folder / "masks" / f"{path.name}.png")
    (folder / "queries").mkdir()
    shutil.copy(folder / "photos" / photos[2].name, folder / "queries")
    names = [path.name for path in photos]
    (folder / "list.txt").write_text("# photos\n" + "\n".join(names[:3]))
    (folder / "queries.txt").write_text(f"{names[2]} SIMPLE_RADIAL 320 240 250 160 120 0\n{names[3]}\n")
    (folder / "pairs.txt").write_text("\n".join(f"{a}\t{b}" for a, b in pairwise(names)))
    rows = [f"{name},{50 + i * 1e-5},{7 + i % 2 * 1e-5},{100 + i}" for i, name in enumerate(names)]
    (folder / "positions.csv").write_text("\n".join(["name,lat,lon,alt", *rows]))
    (folder / "gcp.txt").write_text(
        "WGS84 UTM 32N\n"
        + "\n".join(f"{i} {i * i} {3 * i} {50 + 9 * i} 100 {names[i % 3]} p{i % 4}" for i in range(12))
    )
    (folder / "cameras.txt").write_text("# cameras\n1 SIMPLE_RADIAL 320 240 250 160 120 0\n")
    shutil.copy(shipped_weights(), folder / "weights.safetensors")
    options = {"features": "sift", "max_keypoints": 600, "threads": 1, "turned": False}
    workspace = tpsfm.reconstruct(folder / "photos", folder / "map", **options)
    assert workspace.manifest["result"]["registered"] == 6
    return folder


def _photo(folder, rng):
    victim = pick(rng, sorted((folder / "few").iterdir()))
    mutations.mutate_photo(victim, rng)
    if rng.random() < 0.3:
        shutil.rmtree(folder / "queries")
        shutil.move(folder / "few", folder / "queries")
        return ["localize", "--query", "queries", "--map", "map", "--out", "results"]
    return ["extract", "few", "new", *SMALL]


def _exif(folder, rng):
    for path in (folder / "few").iterdir():
        mutations.mutate_exif(path, rng)
    return ["reconstruct", "few", "new", *SMALL, "--pairs", pick(rng, ["exhaustive", "gps"])]


def _mask(folder, rng):
    mutations.mutate_photo(pick(rng, sorted((folder / "masks").iterdir())), rng)
    return ["extract", "few", "new", *SMALL, "--masks", "masks"]


def _list(folder, rng):
    mutations.mutate_text(folder / "list.txt", rng)
    return ["extract", "photos", "new", *SMALL, "--list", "list.txt"]


def _queries(folder, rng):
    mutations.mutate_text(folder / "queries.txt", rng)
    return ["localize", "--query", "queries.txt", "--images", "photos", "--map", "map", "--out", "results"]


def _table(folder, rng):
    name, command = pick(rng, [
        ("pairs.txt", ["pairs", "map", "--pairs-file", "pairs.txt"]),
        ("positions.csv", ["map", "map", "--gps", "positions.csv"]),
        ("gcp.txt", ["map", "map", "--gcp", "gcp.txt"]),
        ("cameras.txt", ["map", "map", "--cameras", "cameras.txt"]),
    ])  # fmt: skip
    mutations.mutate_text(folder / name, rng)
    return command


def _hdf5(folder, rng):
    name, commands = pick(rng, [
        ("features.h5", ["extract", "match", "localize", "reconstruct", "pairs"]),
        ("patches.h5", ["localize"]),
    ])  # fmt: skip
    mutations.mutate_hdf5(folder / "map" / name, rng)
    return _command(pick(rng, commands))


def _sqlite(folder, rng):
    mutations.mutate_sqlite(folder / "map" / "database.db", rng)
    return _command(pick(rng, ["match", "map", "reconstruct", "localize --add"]))


def _weights(folder, rng):
    mutations.mutate_safetensors(folder / "weights.safetensors", rng)
    return ["extract", "few", "new", "--max-size", 96, "--weights", "weights.safetensors", "--no-turned"]


def _manifest(folder, rng):
    mutations.mutate_json(folder / "map" / pick(rng, ["run.json", "run.json", "photos.json"]), rng)
    return _command(pick(rng, ["info", "export", "extract", "map", "localize", "reconstruct"]))


def _command(name: str) -> list:
    return {
        "extract": ["extract", "photos", "map"],
        "pairs": ["pairs", "map", "--pairs", "retrieval", "--neighbours", 2],
        "match": ["match", "map"],
        "map": ["map", "map"],
        "info": ["info", "map"],
        "export": ["export", "map", "--format", "nerfstudio", "--to", "exported"],
        "localize": ["localize", "--query", "queries", "--map", "map", "--out", "results"],
        "localize --add": ["localize", "--query", "queries", "--map", "map", "--out", "results", "--add"],
        "reconstruct": ["reconstruct", "photos", "map", "--features", "sift", "--max-keypoints", 600, "--no-turned"],
    }[name]


KINDS = [_photo, _exif, _mask, _list, _queries, _table, _hdf5, _sqlite, _weights, _manifest]


def contents(folder: Path) -> dict[str, bytes]:
    """All files that a command may not change: those outside of its workspace, and the map."""
    ours = ("new", "results", "exported", "map")
    files = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in files if path.relative_to(folder).parts[0] not in ours]
    kept += [path for path in files if path.is_relative_to(folder / "map" / "sparse")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def _hangs(*_) -> None:
    raise AssertionError(f"after {SECONDS} s it isn't done")


@pytest.mark.parametrize("number", range(COUNT))
def test_a_mutated_input_is_told_in_one_line_and_nothing_is_lost(number, base, tmp_path, monkeypatch):
    folder, rng = tmp_path / "inputs", np.random.default_rng([SEED, number])
    shutil.copytree(base, folder, symlinks=True)
    run = folder / "map" / "run.json"
    run.write_text(run.read_text().replace(str(base), str(folder)))
    command = [str(word) for word in KINDS[number % len(KINDS)](folder, rng)]
    before = contents(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(logging.getLogger("tpsfm"), "handlers", [])
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(SECONDS)
    try:
        result = CliRunner().invoke(main, command)
    finally:
        signal.alarm(0)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert result.exit_code in (0, 1, 2, 3) and "Traceback" not in result.output, result.output
    if result.exit_code in (1, 2) and "localized  " not in result.output:
        assert len(errors) == 1, result.output
    after = contents(folder)
    if result.exit_code == 0:
        before = {name: content for name, content in before.items() if not name.startswith("map/")}
    assert before.items() <= after.items(), sorted(name for name in before if before[name] != after.get(name))

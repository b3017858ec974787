"""A localization that is stopped goes on, and does only those photos again of which something changed."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import tpsfm
from tests.support.localizing import HELD, command
from tpsfm.colmap import read_model
from tpsfm.localization import Map
from tpsfm.progress import Progress

KILLED = """
import os, signal, sys
from contextlib import contextmanager
import tpsfm
from tpsfm.progress import Progress

class Killed(Progress):
    @contextmanager
    def bar(self, label, total=None):
        yield lambda done, total: os.kill(os.getpid(), signal.SIGKILL)

tpsfm.localize(*sys.argv[1:4], add=True, progress=Killed())
"""


@pytest.fixture
def done(monkeypatch):
    """The names of the photos that are localized, in order."""
    names, localize = [], Map.localize_with_features

    def counted(self, image, camera=None, name=None, retrieved=None, mask=None):
        names.append(name)
        return localize(self, image, camera, name, retrieved, mask)

    monkeypatch.setattr(Map, "localize_with_features", counted)
    return names


def record(out) -> list[dict]:
    """What localization.json tells of the photos, without the times."""
    results = json.loads((out / "localization.json").read_text())["results"]
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in results]


def test_interrupted_it_tells_of_what_is_done_and_goes_on(held_out, held_out_map, done, tmp_path):
    class Impatient(Progress):
        @contextmanager
        def bar(self, label, total=None):
            def stop(done, total):
                raise KeyboardInterrupt

            yield stop

    queries, out = held_out / "queries", tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tpsfm.localize(queries, held_out_map, out, progress=Impatient())
    assert (out / "poses.txt").read_text().startswith(HELD[0])
    assert [entry["name"] for entry in record(out)] == [HELD[0]]
    kept, fresh = tpsfm.localize(queries, held_out_map, out)
    assert done == list(HELD)

    once = tpsfm.localize(queries, held_out_map, tmp_path / "undisturbed")
    assert record(out) == record(tmp_path / "undisturbed")
    for result, expected in zip((kept, fresh), once, strict=True):
        np.testing.assert_array_equal(result.matches, expected.matches)
        np.testing.assert_array_equal(result.lines, expected.lines)


def test_killed_it_goes_on_to_the_same_extended_map(held_out, done, tmp_path):
    arguments = [str(path) for path in (held_out / "queries", held_out / "map", tmp_path)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "poses.txt").exists()

    status, said = command("localize", "--query", arguments[0], "--map", arguments[1], "--out", tmp_path, "--add")
    assert status == 0 and "kept                1 of 2 photos" in said
    assert done == [HELD[1]]
    images = read_model(tmp_path / "map" / "sparse").images
    assert all(images[f"added/{name}"].observations > 100 for name in HELD)


def test_only_what_changed_is_done_again(held_out, done, tmp_path):
    queries, out = tmp_path / "queries", tmp_path / "out"
    shutil.copytree(held_out / "queries", queries)
    (queries / "broken.jpg").write_bytes(b"no image")
    shutil.copytree(held_out / "map", tmp_path / "map")

    def again(**options) -> list[str]:
        done.clear()
        tpsfm.localize(queries, tmp_path / "map", out, **options)
        return list(done)

    everything = ["broken.jpg", *HELD]
    assert again() == everything
    assert again() == []
    assert again(add=True) == list(HELD)  # their features are needed now
    assert again(add=True) == again() == []
    (queries / "broken.jpg").write_bytes((queries / HELD[0]).read_bytes())
    assert again() == ["broken.jpg"]
    assert again(top_k=4) == everything
    assert again(top_k=4, camera="SIMPLE_PINHOLE,373.3,240,180") == everything
    tpsfm.reconstruct(held_out / "db", tmp_path / "map", features="sift", max_keypoints=1500, threads=1, seed=1)
    assert again(top_k=4, camera="SIMPLE_PINHOLE,373.3,240,180") == everything

"""Matches and geometries in COLMAP's database: they come back, survive kills and a full disk, and COLMAP reads them."""

import os
import subprocess
import sys
import time
import zlib  # noqa: F401  before pycolmap

import numpy as np
import pycolmap
import pytest

from tpsfm.colmap import PairTable
from tpsfm.errors import TpsfmError

NAMES = ["a.jpg", "sub folder/b.c.jpg", "sub folder/ü – 照片.JPG", "deep/er/%2F.png", "a.jpg.png"]
PAIRS = sorted((a, b) for a in NAMES for b in NAMES if a < b)


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 70000, (seed, 2)).astype(np.uint32)


def fill(path, names=NAMES, pairs=PAIRS, key="key") -> None:
    with PairTable(path, create=True) as table:
        for pair in table.retain(names, {pair: f"{key} {pair}" for pair in pairs}):
            table.write(pair, rows(PAIRS.index(pair)), f"{key} {pair}")


def test_matches_come_back_and_colmap_reads_them(tmp_path):
    path = tmp_path / "database.db"
    fill(path)
    with PairTable(path) as table:
        assert table.matched() == {pair: f"key {pair}" for pair in PAIRS}
        for number, pair in enumerate(PAIRS):
            found = table.read(pair)
            assert found.dtype == np.uint32
            np.testing.assert_array_equal(found, rows(number))
        with pytest.raises(TpsfmError, match=r"no matches of a\.jpg and z\.jpg"):
            table.read(("a.jpg", "z.jpg"))
    ids = {name: number for number, name in enumerate(sorted(NAMES), 1)}
    with pycolmap.Database.open(path) as db:
        assert db.num_matched_image_pairs() == len(PAIRS) - 1  # the first has no matches
        for number, (a, b) in enumerate(PAIRS[1:], 1):
            np.testing.assert_array_equal(db.read_matches(ids[a], ids[b]), rows(number))


def test_only_what_is_missing_or_stale_is_to_be_matched(tmp_path):
    path = tmp_path / "database.db"
    fill(path, pairs=PAIRS[:4])
    keys = {pair: f"key {pair}" for pair in PAIRS}
    keys[PAIRS[1]] = "changed"
    with PairTable(path) as table:
        assert table.retain(NAMES, keys) == [PAIRS[1], *PAIRS[4:]]
        assert table.retain(NAMES, {}) == [] and table.matched() == {}


def test_pairs_keep_their_matches_when_photos_come_and_go(tmp_path):
    path = tmp_path / "database.db"
    fill(path)
    fewer = [name for name in NAMES if name != "a.jpg.png"]
    for names in (fewer, NAMES, [*NAMES, "0.jpg"], fewer):
        pairs = [pair for pair in PAIRS if set(pair) <= set(names)]
        with PairTable(path) as table:
            new = table.retain(names, {pair: f"key {pair}" for pair in pairs})
            assert all("a.jpg.png" in pair for pair in new)
            for pair in set(pairs) - set(new):
                np.testing.assert_array_equal(table.read(pair), rows(PAIRS.index(pair)))
            for pair in new:
                table.write(pair, rows(PAIRS.index(pair)), f"key {pair}")
    ids = {name: number for number, name in enumerate(sorted(fewer), 1)}
    with pycolmap.Database.open(path) as db:
        for a, b in pairs[1:]:
            np.testing.assert_array_equal(db.read_matches(ids[a], ids[b]), rows(PAIRS.index((a, b))))


WRITER = """
import sys
import numpy as np
from tpsfm.colmap import PairTable, pair_table
pair_table.COMMIT_EVERY = float(sys.argv[3])
first = int(sys.argv[2])
names = [f"{i:06}.jpg" for i in range(first + 5000)]
keys = {(a, b): f"key {b}" for a, b in zip(names, names[1:])}
with PairTable(sys.argv[1], create=True) as table:
    for pair in table.retain(names, keys):
        i = int(pair[1][:6])
        table.write(pair, np.full((i % 50 + 1, 2), i), keys[pair])
        print(i, flush=True)
"""


@pytest.mark.parametrize("commit_every", [0.0, 0.1])
def test_kill_9_loses_at_most_the_last_group(tmp_path, commit_every):
    path = tmp_path / "database.db"
    for turn, seconds in enumerate((0.0, 0.05, 0.5)):
        command = [sys.executable, "-c", WRITER, str(path), str(turn * 5000), str(commit_every)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        done = {int(writer.stdout.readline()): time.monotonic()}  # it has begun
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (line := writer.stdout.readline()):
            done[int(line)] = time.monotonic()
        writer.kill()
        killed = time.monotonic()
        writer.communicate()
        with PairTable(path) as table:
            pairs = table.matched()
            kept = {int(b[:6]) for _, b in pairs}
            assert {i for i, at in done.items() if at < killed - 3 * commit_every} <= kept
            for pair in pairs:
                i = int(pair[1][:6])
                np.testing.assert_array_equal(table.read(pair), np.full((i % 50 + 1, 2), i))
    assert len(kept) > 50


FILLER = """
import resource, signal, sys
import numpy as np
from tpsfm.colmap import PairTable, pair_table
from tpsfm.errors import TpsfmError
pair_table.COMMIT_EVERY = 0.0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
names = [f"{i:05}.jpg" for i in range(10000)]
with PairTable(sys.argv[1], create=True) as table:
    table.retain(names, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with PairTable(sys.argv[1], create=True) as table:
        table.retain(names, {(a, b): "key" for a, b in zip(names, names[1:])})
        for pair in zip(names, names[1:]):
            table.write(pair, np.full((10000, 2), int(pair[1][:5])), "key")
            print(pair[1][:5], flush=True)
except TpsfmError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.mark.parametrize("limit", [3000, 1_000_000, 8_000_000])
def test_a_full_disk_ends_in_one_line_and_spoils_nothing(tmp_path, limit):
    pytest.importorskip("resource")
    path = tmp_path / "database.db"
    run = subprocess.run(
        [sys.executable, "-c", FILLER, str(path), str(limit)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 2, run.stderr
    assert len(run.stderr.splitlines()) == 1 and str(path) in run.stderr, run.stderr
    with PairTable(path) as table:
        kept = table.matched()
        assert {int(i) for i in run.stdout.split()} <= {int(b[:5]) for _, b in kept}
        for pair in kept:
            assert (table.read(pair) == int(pair[1][:5])).all()


IMAGES = """
import resource, signal, sys
from tests.support.synthesized import Scene
from tpsfm import colmap
from tpsfm.errors import TpsfmError
path, scene = sys.argv[1], Scene(frames=4)
with colmap.PairTable(path, create=True) as table:
    table.retain(scene.infos, {(a, b): "key" for a, b, _ in scene.matches})
    for a, b, matches in scene.matches:
        table.write((a, b), matches, "key")
write = lambda: colmap.write_images(
    path, scene.infos, colmap.group_cameras(scene.infos, "single"), scene.points.__getitem__, key="images"
)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write()
    colmap.verify_matches(path)
except TpsfmError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write()
print(len(colmap.verify_matches(path)[1]))
"""


@pytest.mark.parametrize("limit", range(30_000, 100_000, 14_000))
def test_a_disk_that_is_full_of_images_or_geometries_ends_in_one_line_and_the_next_run_goes_on(tmp_path, limit):
    pytest.importorskip("resource")
    command = [sys.executable, "-c", IMAGES, str(tmp_path / "database.db"), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    *told, pairs = run.stdout.splitlines()
    assert len(told) == 1 and "database.db" in told[0] and pairs == "6"


def test_a_damaged_file_is_told_or_made_anew(tmp_path, caplog):
    path = tmp_path / "database.db"
    fill(path)
    content = path.read_bytes()
    for offset in range(0, len(content), len(content) // 12):
        path.write_bytes(content[:offset])  # cut off
        try:
            with PairTable(path) as table:
                for pair in table.matched():
                    np.testing.assert_array_equal(table.read(pair), rows(PAIRS.index(pair)))
        except TpsfmError as error:
            assert "database.db" in str(error) and "\n" not in str(error)
        fill(path)
        with PairTable(path) as table:
            assert list(table.matched()) == PAIRS
    path.write_bytes(os.urandom(5000))
    fill(path)
    assert "was damaged" in caplog.text


def test_twenty_thousand_pairs_stay_fast(tmp_path):
    names = [f"{i:03}.jpg" for i in range(201)]
    keys = {(a, b): "key" for i, a in enumerate(names) for b in names[i + 1 :]}
    matches = np.zeros((200, 2))
    start = time.process_time()
    with PairTable(tmp_path / "database.db", create=True) as table:
        for pair in table.retain(names, keys):
            table.write(pair, matches, "key")
    assert time.process_time() - start < 10  # measured: 1 s
    start = time.process_time()
    with PairTable(tmp_path / "database.db") as table:
        assert table.retain(names, keys) == []
        assert len(table.matched()) == 20100
    assert time.process_time() - start < 4  # measured: 0.3 s

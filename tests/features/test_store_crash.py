"""What is left of a store after kills, cuts, damage and a full disk."""

import os
import re
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from tests.support.stored import assert_same, features, leave_unclean, write_features
from tpsfm.errors import TpsfmError
from tpsfm.features.store import FeatureStore


def spans(path) -> dict[str, int]:
    """For each image, the offset behind the last of its bytes."""
    with h5py.File(path) as file:
        return {
            name: max(dataset.id.get_offset() + dataset.id.get_storage_size() for dataset in group.values())
            for name, group in file.items()
        }


def test_a_discarded_group_stays_away_after_a_repair(tmp_path):
    path = tmp_path / "f.h5"
    with FeatureStore(path, "a") as store:
        store.write("a.jpg", features(1), "old")
        store.write("a.jpg", features(2), "new")
        store.write("b.jpg", features(3), "gone")
        store.discard("b.jpg")
    leave_unclean(path)
    with FeatureStore(path, "a") as store:
        assert store.names() == ["a.jpg"]
        assert store.key("a.jpg") == "new"
        assert_same(store.read("a.jpg"), features(2))


def signs(number: int) -> np.ndarray:
    """A unit vector [8] that the last bits of a number make."""
    return ((number >> np.arange(8) & 1) * 2 - 1) / np.sqrt(8, dtype=np.float32)


WRITER = """
import sys
import numpy as np
from tpsfm.features.base import Features
from tpsfm.features.store import FeatureStore
from tests.features.test_store_crash import signs
path, first = sys.argv[1], int(sys.argv[2])
random = np.random.default_rng(first)
with FeatureStore(path + ".features", "a") as features:
    for i in range(first, first + 100000):
        n = int(random.integers(0, 300))
        features.write(f"folder {i % 3}/{i}.jpg",
            Features(np.full((n, 2), i), np.full(n, i), np.tile(signs(i), (n, 1)), (i, i)), f"key {i}")
        print("features", i, flush=True)
        if i % 5 == 4:
            print("discarding", i - 1, flush=True)
            features.discard(f"folder {(i - 1) % 3}/{i - 1}.jpg")
            print("discarded", i - 1, flush=True)
"""


def test_kill_9_loses_nothing_that_was_complete(tmp_path):
    """The writer says what is complete; killed at any moment, thrice over, all of that is there."""
    done = {"features": set(), "discarding": set(), "discarded": set()}
    for turn, seconds in enumerate((0.0, 0.05, 0.4, 0.9)):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "x"), str(turn * 100000)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = [writer.stdout.readline()]  # it has begun
        time.sleep(seconds)
        writer.kill()
        lines += writer.communicate()[0].splitlines(keepends=True)
        assert writer.returncode == -9
        for line in lines:
            if line.endswith("\n"):
                what, i = line.split()
                done[what].add(int(i))
        with pytest.raises(TpsfmError, match="not closed"):
            FeatureStore(tmp_path / "x.features")
        with FeatureStore(tmp_path / "x.features", "a") as store:
            kept = {int(re.search(r"(\d+)\.jpg", name)[1]) for name in store.names()}
            assert done["features"] - done["discarding"] <= kept
            assert not kept & done["discarded"]
            for i in kept:
                name = f"folder {i % 3}/{i}.jpg"
                assert store.key(name) == f"key {i}"
                stored = store.read(name)
                assert stored.image_size == (i, i)
                assert (stored.keypoints == i).all() and np.allclose(stored.descriptors, signs(i))
    assert len(done["features"]) > 20 and done["discarded"]


def test_cut_off_anywhere_what_lies_before_the_cut_survives(tmp_path):
    path, cut = tmp_path / "f.h5", tmp_path / "cut.h5"
    write_features(path, 12)
    ends = spans(path)
    size = path.stat().st_size
    offsets = {0, 1, 8, 100, size - 1} | set(np.random.default_rng(0).integers(0, size, 60).tolist())
    offsets |= {end + shift for end in ends.values() for shift in (-1, 0)}
    for offset in sorted(offsets - {size}):
        shutil.copy(path, cut)
        os.truncate(cut, offset)
        with pytest.raises(TpsfmError, match=r"cut\.h5 is damaged"):
            FeatureStore(cut)
        with FeatureStore(cut, "a") as store:
            assert store.names() == sorted(name for name, end in ends.items() if end <= offset), offset
            for name in store.names():
                assert_same(store.read(name), features(int(name[:3])))
            store.write("new.jpg", features(99), "new")
        with FeatureStore(cut) as store:
            assert_same(store.read("new.jpg"), features(99))
    assert {entry.name for entry in tmp_path.iterdir()} == {"f.h5", "cut.h5"}


def test_damage_anywhere_is_noticed_and_repaired(tmp_path, caplog):
    """Overwrite some bytes: each image is read right or not at all, and the next run repairs the rest."""
    path, damaged = tmp_path / "f.h5", tmp_path / "damaged.h5"
    write_features(path, 12)
    random = np.random.default_rng(0)
    content = path.read_bytes()
    for offset in random.integers(0, len(content) - 64, 60):
        spoilt = content[:offset] + random.bytes(64) + content[offset + 64 :]
        damaged.write_bytes(spoilt)
        for mode in ("r", "a", "a"):
            try:
                with FeatureStore(damaged, mode) as store:
                    for name in store.names():
                        assert_same(store.read(name), features(int(name[:3])))
            except TpsfmError as error:
                assert "damaged" in str(error) and "\n" not in str(error)
        with FeatureStore(damaged, "a") as store:
            assert len(store.names()) >= 10
            for name in store.names():
                assert_same(store.read(name), features(int(name[:3])))
    assert "recovered" in caplog.text


def test_nothing_to_salvage_starts_empty(tmp_path):
    path = tmp_path / "f.h5"
    path.write_bytes(b"not HDF5 at all" * 1000)
    with pytest.raises(TpsfmError, match="damaged"):
        FeatureStore(path)
    write_features(path, 2)
    with FeatureStore(path) as store:
        assert len(store.names()) == 2


def test_a_killed_repair_is_done_again(tmp_path):
    path = tmp_path / "f.h5"
    write_features(path, 3)
    leave_unclean(path)
    (tmp_path / ".f.h5.repair").write_bytes(path.read_bytes()[:5000])
    with FeatureStore(path, "a") as store:
        assert len(store.names()) == 3
    assert not (tmp_path / ".f.h5.repair").exists()


FILLER = """
import resource, signal, sys
import numpy as np
from tpsfm.errors import TpsfmError
from tpsfm.features.base import Features
from tpsfm.features.store import FeatureStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with FeatureStore(sys.argv[1], "a") as store:
        for i in range(10000):
            points = np.full((10000, 2), i)
            store.write(f"{i}.jpg", Features(points, points[:, 0], np.zeros((10000, 1)), (640, 480)), "key")
            print(i, flush=True)
except TpsfmError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.mark.parametrize("limit", [100, 3000, 1_000_000, 8_000_000, 20_000_000])
def test_a_full_disk_ends_in_one_line_and_spoils_nothing(tmp_path, limit):
    pytest.importorskip("resource")
    path = tmp_path / "f.h5"
    run = subprocess.run(
        [sys.executable, "-c", FILLER, str(path), str(limit)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 2, run.stderr
    assert re.fullmatch(rf"cannot write {re.escape(str(path))}: .*\n", run.stderr)
    with FeatureStore(path, "a") as store:
        assert {f"{i}.jpg" for i in run.stdout.split()} <= set(store.names())
        for name in store.names():
            assert (store.read(name).keypoints == int(name[:-4])).all()

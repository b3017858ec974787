"""The stores: what is written comes back, and mistakes are told."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tests.support.stored import assert_same, features, features_of_before, write_features
from tpsfm.errors import TpsfmError
from tpsfm.features import Features
from tpsfm.features.store import FeatureStore

NAMES = ["a.jpg", "sub folder/b.c.jpg", "sub folder/ü – 照片.JPG", "deep/er/%2F.png", "a.jpg.png"]


def test_features_come_back(tmp_path):
    with FeatureStore(tmp_path / "f.h5", "a") as store:
        for seed, name in enumerate(NAMES):
            store.write(name, features(seed, count=seed * 10), f"key {seed}")
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.names() == sorted(NAMES)
        for seed, name in enumerate(NAMES):
            assert store.key(name) == f"key {seed}"
            assert_same(store.read(name), features(seed, count=seed * 10))
            assert np.array_equal(store.read_keypoints(name), features(seed, count=seed * 10).keypoints)
        assert store.key("sub folder") is None
        with pytest.raises(TpsfmError, match=r"no features of 'other\.jpg'"):
            store.read("other.jpg")


def test_keypoints_are_counted_without_reading_them(tmp_path):
    path = tmp_path / "f.h5"
    with FeatureStore(path, "a") as store:
        for count in (0, 1, 70):
            store.write(f"{count}.jpg", features(count, count=count), "key")
    with h5py.File(path, "r+") as file:  # what isn't looked at may be damaged
        file["70.jpg/keypoints"][...] = 0
    with FeatureStore(path) as store:
        assert [store.count(f"{count}.jpg") for count in (0, 1, 70)] == [0, 1, 70]
        with pytest.raises(TpsfmError, match=r"no features of 'other\.jpg'"):
            store.count("other.jpg")


def test_a_mistake_of_ours_is_not_taken_for_damage(tmp_path):
    class Mistaken(FeatureStore):
        @property
        def kind(self):
            return self.sort  # no such attribute

    path = tmp_path / "f.h5"
    write_features(path, 3)
    content = path.read_bytes()
    for mode in ("r", "a"):
        with pytest.raises(AttributeError, match="sort"):
            Mistaken(path, mode)
    assert path.read_bytes() == content


def test_a_group_is_what_hloc_reads(tmp_path):
    with FeatureStore(tmp_path / "f.h5", "a") as store:
        store.describe({"name": "tpr", "digest": "0"})
        store.write(NAMES[1], features(1), "key")
        store.write_global(NAMES[1], np.ones(8), "key")
    with h5py.File(tmp_path / "f.h5") as file:
        group = file[NAMES[1]]
        assert group["keypoints"].shape == (50, 2) and group["keypoints"].dtype == np.float32
        assert group["scores"].shape == (50,) and group["scores"].dtype == np.float32
        assert group["descriptors"].shape == (16, 50) and group["descriptors"].dtype == np.int8
        assert group["image_size"][()].tolist() == [4001, 3000]
        assert group["global_descriptor"].shape == (8,)
        assert json.loads(file.attrs["extractor"]) == {"name": "tpr", "digest": "0"}
        datasets = []
        file.visititems(lambda name, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
        assert {dataset.parent.name.strip("/") for dataset in datasets} == {NAMES[1]}  # hloc's list_h5_names


def test_descriptors_are_packed_once(tmp_path):
    written = features(1, count=500, dim=96)
    written.descriptors[7] = 0
    packed = written.packed()
    assert packed.descriptors.dtype == np.int8 and packed.packed() is packed
    assert np.array_equal(packed.unpacked().packed().descriptors, packed.descriptors)
    assert np.linalg.norm(packed.unpacked().descriptors[:7], axis=1) == pytest.approx(1)
    assert not packed.unpacked().descriptors[7].any()
    with FeatureStore(tmp_path / "f.h5", "a") as store:
        store.write("fresh.jpg", written, "key")
        store.write("packed.jpg", packed, "key")
        store.write("read.jpg", store.read("fresh.jpg"), "key")
        for name in store.names():
            assert np.array_equal(store.read(name).descriptors, packed.unpacked().descriptors)
            assert np.array_equal(store.read_packed(name).descriptors, packed.descriptors)
        assert Features.empty(96, (1, 1)).packed().unpacked().descriptors.shape == (0, 96)
    bytes_each = 96 + 12
    assert (tmp_path / "f.h5").stat().st_size < 3 * (500 * bytes_each + 4000)


def test_a_store_of_before_keeps_its_descriptors(tmp_path, caplog):
    path = tmp_path / "f.h5"
    write_features(path, 2)
    features_of_before(path)
    with FeatureStore(path, "a") as store:
        before = store.read_packed("000.jpg").descriptors
        assert before.dtype == np.float16 and np.array_equal(store.read("000.jpg").descriptors, before)
        assert_same(store.read("000.jpg"), features(0))
        assert not caplog.messages
        for seed in (2, 3):
            store.write(f"{seed:03}.jpg", features(seed), "key")
            assert_same(store.read(f"{seed:03}.jpg"), features(seed))
        assert store.read_packed("002.jpg").descriptors.dtype == np.int8
        assert np.array_equal(store.read_packed("000.jpg").descriptors, before)
    assert [message for message in caplog.messages if "16 bits, new ones get 8" in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_new_features_replace_the_old_and_their_global_descriptor(tmp_path):
    path = tmp_path / "f.h5"
    with FeatureStore(path, "a") as store:
        store.write("a.jpg", features(1), "old")
        store.write_global("a.jpg", np.arange(4), "global")
        assert store.global_key("a.jpg") == "global"
        assert np.array_equal(store.read_global("a.jpg"), np.arange(4))
        store.write("a.jpg", features(2, count=7), "new")
        assert store.global_key("a.jpg") is None
        assert store.key("a.jpg") == "new"
        assert_same(store.read("a.jpg"), features(2, count=7))
        store.discard("a.jpg")
        store.discard("never there.jpg")
        assert store.names() == []
    with FeatureStore(path) as store:
        assert store.key("a.jpg") is None
    with h5py.File(path) as file:
        assert len(file) == 0


def test_opening_without_a_change_leaves_the_file_alone(tmp_path):
    path = tmp_path / "f.h5"
    write_features(path, 3)
    content = path.read_bytes()
    with FeatureStore(path, "a") as store:
        assert store.read("001.jpg").image_size == (4001, 3000)
    assert path.read_bytes() == content


def test_user_errors_are_told_in_a_line(tmp_path):
    with pytest.raises(TpsfmError, match=r"cannot open .*f\.h5: No such file.*; run 'tpsfm extract'"):
        FeatureStore(tmp_path / "f.h5")
    with pytest.raises(TpsfmError, match=r"cannot write .*f\.h5: No such file"):
        FeatureStore(tmp_path / "none" / "f.h5", "a")
    with FeatureStore(tmp_path / "f.h5", "a") as store:
        store.write("a.jpg", features(0), "key")
        with pytest.raises(TpsfmError, match="in use"):
            subprocess_open(tmp_path / "f.h5")
    with pytest.raises(TpsfmError, match="not a store of sketches"):
        Sketches(tmp_path / "f.h5", "a")
    with FeatureStore(tmp_path / "f.h5") as store, pytest.raises(TpsfmError, match="not open for writing"):
        store.write("b.jpg", features(0), "key")


class Sketches(FeatureStore):
    """Another kind of store."""

    kind = "sketches"


def subprocess_open(path) -> None:
    """Open the store in another process; raise here what it raises there."""
    code = "import sys; from tpsfm.features.store import FeatureStore; FeatureStore(sys.argv[1], 'a')"
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    if run.returncode:
        raise TpsfmError(run.stderr.splitlines()[-1])


def test_a_file_of_others_is_refused_and_kept(tmp_path):
    path = tmp_path / "hloc.h5"
    with h5py.File(path, "w") as file:
        file["a.jpg/keypoints"] = np.zeros((3, 2))
    content = path.read_bytes()
    for mode in ("r", "a"):
        with pytest.raises(TpsfmError, match="not a store of features"):
            FeatureStore(path, mode)
    assert path.read_bytes() == content

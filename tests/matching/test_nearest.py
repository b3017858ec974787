import weakref

import numpy as np
import pytest
import torch

from tpsfm.errors import TpsfmError
from tpsfm.features import Features
from tpsfm.features.sift import SIFT
from tpsfm.features.store import FeatureStore
from tpsfm.matching import nearest as matching
from tpsfm.matching.batch import pair_features
from tpsfm.matching.nearest import MutualNearest, mutual_nearest
from tpsfm.parallel import in_parallel


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_descriptors(count, seed, dim=16):
    return unit(np.random.default_rng(seed).standard_normal((count, dim)))


def by_definition(d0, d1):
    similarity = d0 @ d1.T
    forth, back = similarity.argmax(1), similarity.argmax(0)
    return [[i, j] for i, j in enumerate(forth) if back[j] == i]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(matching, "CPU_BLOCK", 32)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (31, 70), (200, 33), (64, 64)])
def test_mutual_nearest_equals_its_definition(small_blocks, device, n, m):
    d0, d1 = random_descriptors(n, 0), random_descriptors(m, 1)
    matches, similarity = mutual_nearest(*(torch.from_numpy(d).to(device) for d in (d0, d1)))
    assert matches.dtype == np.uint32 and similarity.dtype == np.float32
    assert matches.tolist() == by_definition(d0, d1)
    np.testing.assert_allclose(similarity, (d0[matches[:, 0]] * d1[matches[:, 1]]).sum(1), atol=1e-6)


def test_mutual_nearest_is_symmetric():
    d0, d1 = random_descriptors(150, 0), random_descriptors(170, 1)
    swapped = mutual_nearest(d1, d0, ratio=0.97)[0][:, ::-1].tolist()
    assert mutual_nearest(d0, d1, ratio=0.97)[0].tolist() == sorted(swapped)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_decides_otherwise_only_where_distances_are_alike(small_blocks, device, dtype):
    """Two near neighbours each, whose cosines are often equal in bfloat16."""
    d0 = random_descriptors(300, 0, 128)
    rng = np.random.default_rng(1)
    near, less_near = (unit(d0 + noise * rng.standard_normal(d0.shape)) for noise in (0.01, 0.0115))
    d1 = np.concatenate([less_near, near]).astype(np.float32)
    assert (torch.from_numpy(d0 * near).to(dtype).sum(1) == torch.from_numpy(d0 * less_near).to(dtype).sum(1)).any()
    matches, similarity = mutual_nearest(*(torch.from_numpy(d).to(device, dtype) for d in (d0, d1)))
    expected = by_definition(d0, d1)
    assert np.mean([match in expected for match in matches.tolist()]) > 0.95 and len(matches) > 0.95 * len(expected)
    np.testing.assert_allclose(similarity, (d0[matches[:, 0]] * d1[matches[:, 1]]).sum(1), atol=2e-3)


def test_both_second_nearest_count(small_blocks):
    d0, d1 = random_descriptors(150, 0), random_descriptors(171, 1)
    distance = np.sqrt(2 - 2 * d0 @ d1.T)
    mutual = by_definition(d0, d1)
    second = [min(np.partition(distance[i], 1)[1], np.partition(distance[:, j], 1)[1]) for i, j in mutual]
    expected = [match for match, other in zip(mutual, second, strict=True) if distance[tuple(match)] <= 0.95 * other]
    assert 0 < len(expected) < len(mutual)
    assert mutual_nearest(d0, d1, ratio=0.95)[0].tolist() == expected


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0)])
def test_no_descriptors_no_matches(n, m):
    matches, similarity = mutual_nearest(np.ones((n, 4), np.float32), np.ones((m, 4), np.float32))
    assert matches.shape == (0, 2) and matches.dtype == np.uint32 and similarity.shape == (0,)


def test_of_equals_the_first_is_taken_and_none_twice(small_blocks):
    d0 = np.eye(4, dtype=np.float32)[np.arange(80) % 4]
    matches, _ = mutual_nearest(d0, d0[:70])
    assert matches.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_least_similarity():
    d0, d1 = random_descriptors(100, 0), random_descriptors(100, 1)
    matches, similarity = mutual_nearest(d0, d1)
    kept, kept_similarity = mutual_nearest(d0, d1, min_similarity=0.7)
    assert 0 < len(kept) < len(matches)
    assert kept.tolist() == matches[similarity >= 0.7].tolist() and kept_similarity.min() >= 0.7


def test_ratio_is_tested_in_both_images(small_blocks):
    d0, d1 = random_descriptors(90, 0, dim=8), random_descriptors(110, 1, dim=8)
    distance = np.linalg.norm(d0[:, None] - d1[None], axis=2)
    expected = []
    for i, j in by_definition(d0, d1):
        second = min(np.delete(distance[i], j).min(), np.delete(distance[:, j], i).min())
        if distance[i, j] <= 0.9 * second:
            expected.append([i, j])
    found = mutual_nearest(d0, d1, ratio=0.9)[0].tolist()
    assert found == expected and 0 < len(found) < len(by_definition(d0, d1))


def test_ratio_with_a_single_candidate_keeps_it():
    d = random_descriptors(1, 0)
    assert mutual_nearest(d, d, ratio=0.8)[0].tolist() == [[0, 0]]


def test_half_precision_finds_the_same_true_matches():
    d0 = random_descriptors(500, 0, dim=64)
    order = np.random.default_rng(2).permutation(500)
    d1 = unit(d0[order] + 0.3 * random_descriptors(500, 1, dim=64))
    half = [torch.from_numpy(d).half() for d in (d0, d1)]
    matches, similarity = mutual_nearest(*half)
    assert similarity.dtype == np.float32
    assert np.mean(order[matches[:, 1]] == matches[:, 0]) > 0.99 and len(matches) > 495


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_finds_what_the_cpu_finds():
    d0, d1 = torch.from_numpy(random_descriptors(3000, 0)), torch.from_numpy(random_descriptors(9000, 1))
    expected = mutual_nearest(d0, d1, ratio=0.95)[0].tolist()
    assert mutual_nearest(d0.cuda(), d1.cuda(), ratio=0.95)[0].tolist() == expected


@pytest.mark.parametrize("options", [{"ratio": 0}, {"ratio": 1.1}, {"min_similarity": 1.5}, {"ratio": np.nan}])
def test_options_out_of_range(options):
    with pytest.raises(TpsfmError):
        MutualNearest(**options)


class CountingStore(FeatureStore):
    """A feature store that notes what is read, and how many images' descriptors are in memory at once."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.reads = []
        self.alive = self.most_alive = 0

    def read(self, name):
        self.reads.append(name)
        features = super().read(name)
        self.alive += 1
        self.most_alive = max(self.alive, self.most_alive)
        weakref.finalize(features.descriptors, self.forget)
        return features

    def forget(self):
        self.alive -= 1


NAMES = [f"sub folder/é.{i:02d}.jpg" for i in range(10)]
PAIRS = [(a, b) for a in NAMES for b in NAMES if a < b]
BYTES = 60 * 16 * 4  # of one image's descriptors in float32


@pytest.fixture
def features(tmp_path, monkeypatch):
    monkeypatch.setattr(matching, "matching_type", lambda device: torch.float32)
    with CountingStore(tmp_path / "features.h5", "a") as store:
        for i, name in enumerate(NAMES):
            count = 0 if i == 7 else 60
            keypoints = np.zeros((count, 2), np.float32)
            descriptors = random_descriptors(count, i) if count else np.zeros((0, 16), np.float32)
            store.write(name, Features(keypoints, keypoints[:, 0], descriptors, (640, 480)), "key")
        yield store


def match_pairs(matcher, read, pairs, **limits):
    return in_parallel(matcher.match, pair_features(lambda name: matcher.prepare(read(name)), pairs, **limits))


@pytest.mark.parametrize("memory", [1, 3 * BYTES, 1 << 30])
def test_match_pairs_whatever_the_memory(features, memory):
    found = dict(match_pairs(MutualNearest("cpu"), features.read, PAIRS, memory=memory))
    assert sorted(found) == PAIRS
    for name0, name1 in PAIRS:
        expected = mutual_nearest(features.read(name0).descriptors, features.read(name1).descriptors)
        for one, other in zip(found[name0, name1], expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_many_pairs_share_one_reading(features):
    list(match_pairs(MutualNearest("cpu"), features.read, PAIRS))
    assert sorted(features.reads) == NAMES
    features.reads.clear()
    list(match_pairs(MutualNearest("cpu"), features.read, PAIRS, memory=5 * BYTES))
    assert len(features.reads) == 15  # five held, five beside them, then those five


@pytest.mark.parametrize("images_held", [1, 4])
def test_held_descriptors_stay_within_the_memory(features, images_held):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in match_pairs(MutualNearest("cpu"), features.read, PAIRS, memory=images_held * BYTES):
        pass
    torch.set_num_threads(threads)
    assert images_held < features.most_alive <= images_held + 4


def test_repeated_and_swapped_pairs_are_matched_once(features):
    pairs = [(NAMES[1], NAMES[0]), (NAMES[0], NAMES[1])]
    assert [pair for pair, _ in match_pairs(MutualNearest("cpu"), features.read, pairs)] == [(NAMES[0], NAMES[1])]


def test_thresholds_apply(features):
    matcher = MutualNearest("cpu", min_similarity=0.6)
    ((_, (matches, similarity)),) = match_pairs(matcher, features.read, PAIRS[:1])
    assert len(matches) > 0 and similarity.min() >= 0.6


def test_a_missing_image_keeps_what_is_done_and_the_number_of_threads(features):
    threads = torch.get_num_threads()
    done = []
    with pytest.raises(TpsfmError, match=r"zebra\.jpg"):
        done.extend(match_pairs(MutualNearest("cpu"), features.read, [*PAIRS, (NAMES[9], "zebra.jpg")], memory=1))
    assert torch.get_num_threads() == threads


def test_the_ratio_is_the_extractors_own_where_none_is_given():
    assert MutualNearest.create(SIFT, "cpu").ratio == SIFT.ratio == 0.85
    assert MutualNearest.create(SIFT, "cpu", ratio=0.7).ratio == 0.7
    assert MutualNearest.create(SIFT, "cpu", ratio=1).ratio is None

import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.retrieval import index as retrieval
from tpsfm.retrieval.vlad import train_vocabulary


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def test_vocabulary_clusters_and_is_deterministic():
    rng = np.random.default_rng(0)
    samples = (unit(rng.standard_normal((9, 16)))[rng.integers(0, 9, 800)]).astype(np.float32)
    samples += 0.1 * rng.standard_normal(samples.shape).astype(np.float32)
    found = train_vocabulary(samples, size=16, seed=3)
    assert found.centres.shape == (16, 16) and found.centres.dtype == np.float32

    def error(centres):
        return ((samples[:, None] - centres[None]) ** 2).sum(2).min(1).mean()

    assert error(found.centres) < 16 * 0.1**2 < error(samples[:16])
    again = train_vocabulary(samples, size=16, seed=3)
    np.testing.assert_array_equal(found.centres, again.centres)
    assert found.digest == again.digest


@pytest.mark.parametrize("size", [0, 11])
def test_vocabulary_needs_enough_samples(size):
    with pytest.raises(TpsfmError, match="vocabulary"):
        train_vocabulary(np.zeros((10, 4), np.float32), size=size)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK", 64)


def test_index_is_exact_over_its_chunks(small_chunks):
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng.standard_normal((300, 24))), unit(rng.standard_normal((150, 24)))
    index = retrieval.Index()
    for start in range(0, 300, 37):  # batches that straddle the chunks
        index.add([str(i) for i in range(start, min(300, start + 37))], vectors[start : start + 37])
    assert len(index) == 300 and index.names == [str(i) for i in range(300)]
    indices, similarity = index.search(queries, 5)
    exact = queries @ vectors.astype(np.float16).astype(np.float32).T
    np.testing.assert_array_equal(indices, np.argsort(-exact, axis=1)[:, :5])
    np.testing.assert_allclose(similarity, -np.sort(-exact, axis=1)[:, :5], atol=1e-5)


def test_neighbours_exclude_the_image_itself_even_among_equals(small_chunks):
    vectors = np.zeros((70, 4), np.float32)
    vectors[:, 0] = 1
    index = retrieval.Index()
    index.add([str(i) for i in range(70)], vectors)
    found = dict(index.neighbours(3))
    assert list(found) == index.names
    for name, others in found.items():
        assert len({other for other, _ in others} - {name}) == 3
        assert all(similarity == pytest.approx(1) for _, similarity in others)


def test_index_of_fewer_images_than_asked_for():
    index = retrieval.Index()
    assert index.search(np.ones((2, 4), np.float32), 5)[0].shape == (2, 0)
    assert list(index.neighbours(5)) == []
    index.add(["a", "b"], np.eye(2, 4, dtype=np.float32))
    indices, similarity = index.search(np.eye(2, 4, dtype=np.float32), 5)
    assert indices.tolist() == [[0, 1], [1, 0]] and similarity.tolist() == [[1, 0], [1, 0]]
    assert index.search(np.empty((0, 4), np.float32), 5)[0].shape == (0, 2)
    assert list(index.neighbours(5)) == [("a", [("b", 0.0)]), ("b", [("a", 0.0)])]

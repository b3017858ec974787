import numpy as np
import torch
from tpr.networks import build_network
from tpr.vlad import Vocabulary, vlad, whitened
from tpr.weights import load_weights, save_weights


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def test_vlad_equals_its_definition():
    rng = np.random.default_rng(0)
    descriptors, vocabulary = unit(rng.standard_normal((50, 8))), unit(rng.standard_normal((4, 8)))
    blocks = np.zeros((4, 8))
    for descriptor in descriptors:
        nearest = ((vocabulary - descriptor) ** 2).sum(1).argmin()
        blocks[nearest] += descriptor - vocabulary[nearest]
    blocks = unit(np.sign(blocks) * np.sqrt(np.abs(blocks)))
    found = vlad(descriptors, vocabulary)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, unit(blocks.ravel()), atol=1e-5)


def test_vlad_of_nothing_is_zero():
    found = vlad(np.empty((0, 8), np.float32), np.ones((4, 8), np.float32))
    assert found.shape == (32,) and not found.any()


def test_vlad_does_not_depend_on_order():
    rng = np.random.default_rng(0)
    descriptors, vocabulary = unit(rng.standard_normal((50, 8))), unit(rng.standard_normal((4, 8)))
    shuffled = vlad(descriptors[::-1], vocabulary)
    np.testing.assert_allclose(shuffled, vlad(descriptors, vocabulary), atol=1e-5)


def photos_of_places(rng):
    """VLAD vectors [120, 12] and their places: what differs from photo to photo outweighs what tells the place."""
    places = np.repeat(np.arange(40), 3)
    vectors = 0.5 * rng.standard_normal((40, 12))[places] + 0.03 * rng.standard_normal((120, 12)) + 5
    vectors[:, :3] += 3 * rng.standard_normal((120, 3))
    return vectors.astype(np.float32), places


def test_whitened_descriptors_are_uncorrelated_and_of_one_variance():
    vectors, _ = photos_of_places(np.random.default_rng(0))
    vocabulary = whitened(np.zeros((3, 4), np.float32), vectors, 8)
    white = (vectors - vocabulary.mean) @ vocabulary.whitening.T
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(8), atol=1e-3)


def test_whitening_finds_places_that_plain_vectors_confuse():
    vectors, places = photos_of_places(np.random.default_rng(0))
    vocabulary = whitened(np.zeros((3, 4), np.float32), vectors, 11)

    def hits(found):
        similarity = unit(found) @ unit(found).T
        np.fill_diagonal(similarity, -1)
        return (places[similarity.argmax(1)] == places).mean()

    plain, white = hits(vectors), hits((vectors - vocabulary.mean) @ vocabulary.whitening.T)
    assert plain < 0.3 and white > 0.7


def test_description_is_the_whitened_vlad():
    rng = np.random.default_rng(0)
    descriptors, centres = unit(rng.standard_normal((50, 4))), unit(rng.standard_normal((3, 4)))
    vocabulary = whitened(centres, rng.standard_normal((40, 12)).astype(np.float32), 5)
    expected = unit(vocabulary.whitening @ (vlad(descriptors, centres) - vocabulary.mean))
    np.testing.assert_allclose(vocabulary.describe(descriptors), expected, atol=1e-6)
    nothing = vocabulary.describe(np.empty((0, 4), np.float32))
    assert nothing.shape == (5,) and nothing.dtype == np.float32 and not nothing.any()
    np.testing.assert_array_equal(Vocabulary(centres).describe(descriptors), vlad(descriptors, centres))


def test_weights_keep_the_vocabulary(tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 64)).astype(np.float32)
    vocabulary = whitened(centres, rng.standard_normal((20, 192)).astype(np.float32), 5)
    torch.manual_seed(0)
    for written in (vocabulary, Vocabulary(centres)):
        save_weights(tmp_path / "w.safetensors", build_network("s"), "s", {}, written)
        found = load_weights(tmp_path / "w.safetensors")[1]
        np.testing.assert_array_equal(found.centres, centres)
        assert (found.whitening is None) == (written.whitening is None)
        if found.whitening is not None:
            np.testing.assert_allclose(found.whitening, vocabulary.whitening, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(found.mean, vocabulary.mean, rtol=1e-3, atol=1e-5)
    assert found.digest == Vocabulary(centres).digest != vocabulary.digest

import numpy as np
import pytest
import torch
from tpr.networks import build_network
from tpr.weights import save_weights

import tpsfm
from tpsfm.features.tpr import TPR, fold_batch_norms, spread_scores
from tpsfm.photos import read_image


@pytest.fixture(scope="module")
def photo(courtyard):
    return read_image(courtyard / "images" / "view_000.jpg")


def test_features_keep_the_contract(photo):
    features = tpsfm.load_extractor("tpr", max_keypoints=300).extract(photo)
    height, width = photo.shape[:2]
    assert 290 <= len(features) <= 300  # shared out among the scales
    assert features.image_size == (width, height)
    assert features.keypoints.dtype == features.scores.dtype == features.descriptors.dtype == np.float32
    assert (features.keypoints >= 0).all() and (features.keypoints <= [width - 1, height - 1]).all()
    assert (np.diff(features.scores) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)


def test_keypoints_are_sub_pixel_and_apart(photo):
    keypoints = tpsfm.load_extractor("tpr", nms_radius=3, scales=(1.0,), octaves=1).extract(photo).keypoints
    assert (np.abs(keypoints - np.rint(keypoints)) > 0.01).mean() > 0.8
    distance = np.linalg.norm(keypoints[:, None] - keypoints[None], axis=2) + 99 * np.eye(len(keypoints))
    assert distance.min() > 2


def test_a_shifted_photo_has_shifted_keypoints(photo):
    extractor = tpsfm.load_extractor("tpr", max_keypoints=500, scales=(1.0,), octaves=1)
    whole = extractor.extract(photo).keypoints
    part = extractor.extract(np.ascontiguousarray(photo[32:, 16:])).keypoints + np.array([16, 32])
    nearest = np.linalg.norm(whole[:, None] - part[None], axis=2).min(0)
    assert np.median(nearest) < 0.1


def test_a_reduced_photo_keeps_its_coordinates(photo):
    extractor = tpsfm.load_extractor("tpr", max_keypoints=300)
    doubled = photo.repeat(2, 0).repeat(2, 1)
    small = extractor.extract(photo).keypoints
    large = tpsfm.load_extractor("tpr", max_keypoints=300, max_size=photo.shape[1]).extract(doubled).keypoints
    np.testing.assert_allclose(large, (small + 0.5) * 2 - 0.5, atol=0.02)


def test_a_mask_keeps_keypoints_out(photo):
    mask = np.zeros(photo.shape[:2], bool)
    mask[100:200, 150:300] = True
    keypoints = tpsfm.load_extractor("tpr").extract(photo, mask).keypoints
    assert len(keypoints) > 20
    x, y = np.rint(keypoints).astype(int).T
    assert mask[y, x].all()


def test_grey_equals_colour(photo):
    import cv2

    extractor = tpsfm.load_extractor("tpr", max_keypoints=100)
    grey = extractor.extract(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))
    np.testing.assert_array_equal(extractor.extract(photo).keypoints, grey.keypoints)


@pytest.mark.parametrize("size", [(1, 1), (8, 200), (16, 16), (33, 47)])
def test_tiny_and_blank_images(size):
    features = tpsfm.load_extractor("tpr").extract(np.full(size, 128, np.uint8))
    assert features.keypoints.shape[1] == 2 and features.descriptors.shape[1] == 96
    assert np.isfinite(features.descriptors).all()


@pytest.fixture(scope="module")
def exact(photo):
    """Features computed on the CPU in float32."""
    extractor = tpsfm.load_extractor("tpr", device="cpu", max_keypoints=500)
    extractor.network.float()
    return extractor.extract(photo)


def test_devices_and_types_agree(photo, exact, device, dtype):
    extractor = tpsfm.load_extractor("tpr", device=device, max_keypoints=500)
    extractor.network.to(dtype)
    rounded = extractor.extract(photo)
    distance = np.linalg.norm(exact.keypoints[:, None] - rounded.keypoints[None], axis=2)
    same = distance.argmin(1)[distance.min(1) < 0.05]
    assert len(same) > 400
    similarity = (exact.descriptors[distance.min(1) < 0.05] * rounded.descriptors[same]).sum(1)
    assert similarity.mean() > 0.995


def test_folding_batch_norms_changes_nothing():
    torch.manual_seed(0)
    network = build_network("s")
    image = torch.rand(2, 1, 64, 96)
    network(image)  # moves the running statistics from their start
    network.eval()
    with torch.inference_mode():
        before = network(image)
        folded = fold_batch_norms(network)
        after = folded(image)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(after.descriptors, before.descriptors, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-3, atol=1e-4)


def test_folding_the_projection_changes_nothing():
    torch.manual_seed(0)
    network = build_network("s", dim=32, per_size=16, counts=(1.0, 0.5))
    image, points = torch.rand(1, 1, 64, 96), 60 * torch.rand(1, 50, 2)
    network.descriptors_at(network(image).descriptors, points)  # moves the running statistics from their start
    network.eval()
    with torch.inference_mode():
        before = network.descriptors_at(network(image).descriptors, points)
        network.fold()
        maps = network(image).descriptors
    assert [level.shape[1] for level in maps] == [64, 64]
    torch.testing.assert_close(network.descriptors_at(maps, points), before, rtol=1e-3, atol=1e-4)


def test_weights_of_ones_own(tmp_path, photo):
    save_weights(tmp_path / "mine.safetensors", build_network("s", dim=32), "s", {"dim": 32})
    extractor = TPR(weights=tmp_path / "mine.safetensors", max_keypoints=50)
    assert extractor.extract(photo).descriptors.shape[1] == 32
    assert extractor.fingerprint["weights"] != TPR().fingerprint["weights"]


def test_bad_weights_are_named(tmp_path):
    missing = tmp_path / "none.safetensors"
    with pytest.raises(tpsfm.TpsfmError, match=r"none\.safetensors: no such"):
        TPR(weights=missing)
    whole = tmp_path / "whole.safetensors"
    save_weights(whole, build_network("s"), "s", {})
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(tpsfm.TpsfmError, match=r"cut\.safetensors"):
        TPR(weights=cut)
    other = tmp_path / "other.safetensors"
    save_weights(other, build_network("s", dim=32), "s", {"dim": 64})
    with pytest.raises(tpsfm.TpsfmError, match=r"other\.safetensors: .*don't fit"):
        TPR(weights=other)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "alien.safetensors")
    with pytest.raises(tpsfm.TpsfmError, match=r"alien\.safetensors: .*TPR"):
        TPR(weights=tmp_path / "alien.safetensors")


def test_options_out_of_range_are_refused():
    with pytest.raises(tpsfm.TpsfmError, match="max_keypoints is 0"):
        TPR(max_keypoints=0)
    with pytest.raises(tpsfm.TpsfmError, match="no features named 'nonsense'"):
        tpsfm.load_extractor("nonsense")
    if not torch.cuda.is_available():
        with pytest.raises(tpsfm.TpsfmError, match="no GPU"):
            TPR(device="cuda")


def test_keypoints_are_spread_over_the_image():
    """Of a crowd and a few weaker ones elsewhere, the crowd's strongest come first, then the few, then the rest."""
    crowd = np.stack([np.arange(50), np.full(50, 5)], 1).astype(np.float32) / 10
    few = np.array([[300, 300], [500, 100], [100, 450]], np.float32)
    scores = np.concatenate([np.linspace(0.9, 0.8, 50), [0.6, 0.5, 0.4]]).astype(np.float32)
    spread = spread_scores(np.concatenate([crowd, few]), scores, (640, 480))
    assert spread[0] == pytest.approx(0.9) and (np.diff(spread[:50]) < 0).all()
    np.testing.assert_allclose(spread[50:], scores[50:], rtol=1e-6)
    assert spread[0] > spread[50] > spread[52] > spread[49]


def test_weak_keypoints_are_left_out_of_many_only(photo):
    everything = tpsfm.load_extractor("tpr", min_score=0.0).extract(photo)
    none_strong = tpsfm.load_extractor("tpr", min_score=1.0).extract(photo)
    assert len(everything) > 1100 and len(none_strong) == 1000
    np.testing.assert_array_equal(none_strong.keypoints, everything.keypoints[:1000])

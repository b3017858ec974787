"""A matcher of another package plugs in by its entry point."""

import sys

import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.features.sift import SIFT
from tpsfm.matching import matcher_class, matcher_names

MODULE = """
import numpy as np
from tpsfm.matching import Matcher

class Identity(Matcher):
    '''Matches the i-th keypoint with the i-th.'''
    name = "identity"
    fingerprint = {"name": "identity", "version": 1}

    def __init__(self, device="auto"):
        self.device = device

    def match(self, first, second):
        rows = np.arange(min(len(first), len(second)), dtype=np.uint32)
        return np.stack([rows, rows], 1), np.ones(len(rows), np.float32)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package, as pip leaves it: a module, and metadata with an entry point."""
    (tmp_path / "my_matcher.py").write_text(MODULE)
    info = tmp_path / "my_matcher-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-matcher\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tpsfm.matchers]\nidentity = my_matcher:Identity\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_matcher", None)


def test_a_package_brings_a_matcher(package):
    assert {"identity", "nearest"} <= set(matcher_names())
    matcher = matcher_class("identity").create(SIFT, device="cpu")
    assert matcher.device == "cpu"
    features = SIFT().extract(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    matches, scores = matcher.match(matcher.prepare(features), matcher.prepare(features))
    assert len(matches) == len(features) == len(scores)
    with pytest.raises(TpsfmError, match="matcher 'identity' takes no --ratio"):
        matcher_class("identity").create(SIFT, ratio=0.8)


def test_an_unknown_matcher_is_told():
    with pytest.raises(TpsfmError, match=r"no matcher named 'glue'; there are: .*nearest"):
        matcher_class("glue")

"""A matcher of another package plugs in by its entry point."""

import shutil
import sys

import numpy as np
import pytest

from tpsfm.colmap import PairTable
from tpsfm.errors import TpsfmError
from tpsfm.features.sift import SIFT
from tpsfm.io.workspace import Workspace
from tpsfm.matching import matcher_class, matcher_names
from tpsfm.reconstruction import Stages

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


def test_a_reconstruction_matches_by_it(package, courtyard, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for photo in sorted((courtyard / "images").iterdir())[:2]:
        shutil.copy(photo, images)
    workspace = Workspace.open(tmp_path / "map", create=True)
    stages = Stages.of(features="sift", max_keypoints=300, matcher="identity", threads=1)
    stages.record(workspace, images)
    for stage in (stages.features, stages.pairs, stages.matching):
        stage.run(workspace)
    with PairTable(workspace.database) as table:
        np.testing.assert_array_equal(table.read(("view_000.jpg", "view_001.jpg"))[:, 0], np.arange(300))


def test_an_unknown_matcher_is_told():
    with pytest.raises(TpsfmError, match=r"no matcher named 'glue'; there are: .*nearest"):
        matcher_class("glue")

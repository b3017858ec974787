"""The silhouette by hand and against scikit-learn's."""

import numpy as np
import pytest

from tpsfm.evaluation.clusters import silhouette


def test_silhouette_by_hand():
    # At 0, 60 and 90 degrees: cosine distances 0.5, 1 - cos 30 and 1.
    angles = np.radians([0, 60, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    near = 1 - np.cos(np.radians(30))
    first, second = (1 - 0.5) / 1, (near - 0.5) / 0.5  # the third is alone
    assert silhouette(vectors, np.array([7, 7, 3])) == pytest.approx((first + second + 0) / 3)


def test_tight_groups_and_none():
    axes = np.repeat(np.eye(4), 5, 0)
    assert silhouette(axes, np.repeat(np.arange(4), 5)) == pytest.approx(1)
    assert abs(silhouette(axes, np.tile(np.arange(5), 4))) < 0.35


def test_scikit_learn_agrees():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 80)
    vectors = rng.normal(size=(6, 16))[labels] + rng.normal(0, 1.5, (80, 16))
    assert silhouette(vectors, labels) == pytest.approx(metrics.silhouette_score(vectors, labels, metric="cosine"))

"""Pairs of very many matches: their geometry is estimated from a part of them, and all are asked."""

from dataclasses import replace

import pytest

from tests.support.synthesized import INFO, Scene
from tpsfm import colmap
from tpsfm.colmap import verification


@pytest.mark.parametrize("focal", [None, 1280.0])
def test_the_inliers_are_those_of_an_estimate_from_all(focal, tmp_path, monkeypatch):
    """An essential matrix where the focal length is known, else a fundamental one."""
    scene = Scene(frames=2, outliers=0.4)
    scene.infos = dict.fromkeys(scene.infos, replace(INFO, focal_px=focal))
    ((*pair, matches),) = scene.matches
    found = []
    for most in (100, 10_000):
        monkeypatch.setattr(verification, "_MOST", most)
        database = tmp_path / f"{most}.db"
        scene.database(database)
        assert colmap.verify_matches(database, threads=1)[1][tuple(pair)] > 0.5 * len(matches) > 100
        ((_, rows),) = verification.verified_matches(database, pair).items()
        found.append(set(map(tuple, rows.tolist())))
    some, every = found
    assert len(some & every) > 0.97 * len(some | every)

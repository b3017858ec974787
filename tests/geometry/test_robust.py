"""A similarity between positions of which some are wrong."""

import numpy as np
import pytest

from tpsfm.geometry import Sim3, rotation_matrix
from tpsfm.geometry.robust import fit_positions

LIMIT = np.array([10.0, 10.0, 20.0])
TRUTH = Sim3(7.0, rotation_matrix([0.9, 0.2, -0.3, 0.1]), np.array([100.0, -50.0, 20.0]))


def positions(count=40, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    source = rng.uniform((-10, -10, -1), (10, 10, 1), (count, 3))
    return source, TRUTH(source) + rng.normal(0, noise, (count, 3))


def test_outliers_of_kilometres_are_left_out():
    source, target = positions()
    target[[3, 8, 21]] += [[3000, 0, 0], [0, -900, 50], [0, 0, 400]]
    fit = fit_positions(source, target, LIMIT)
    assert np.flatnonzero(~fit.inliers).tolist() == [3, 8, 21]
    assert fit.objection == ""
    assert np.linalg.norm(fit.transform(source) - TRUTH(source), axis=1).max() < 1.5
    assert fit.rmse()[0] == pytest.approx(np.sqrt(2), abs=0.4)


@pytest.mark.parametrize(
    "shape, said, tilt", [((0, 0, 0), "at the same place", np.inf), ((1, 0, 0), "", np.inf), ((1, 1, 0), "", 0)]
)
def test_positions_that_do_not_determine_it(shape, said, tilt):
    source, _ = positions()
    source = source * shape
    fit = fit_positions(source, TRUTH(source) + np.random.default_rng(1).normal(0, 0.5, source.shape), LIMIT)
    assert said in fit.objection and bool(said) == bool(fit.objection)
    assert fit.tilt == pytest.approx(tilt, abs=0.01)


def test_a_turn_about_the_line_keeps_the_positions_on_it():
    source, _ = positions()
    source = source * (1, 0, 0)
    fit = fit_positions(source, TRUTH(source), LIMIT)
    turned = fit.turned(0.3)
    np.testing.assert_allclose(turned.transform(source), TRUTH(source), atol=1e-6)
    np.testing.assert_allclose(turned.residuals, 0, atol=1e-6)
    beside = np.array([0.0, 0, 1])
    there, here = turned.transform(beside), fit.transform(beside)
    assert np.linalg.norm(there - here) == pytest.approx(2 * 7.0 * np.sin(0.15), rel=1e-6)


def test_three_that_agree_are_needed():
    source, target = positions(4)
    assert fit_positions(source[:2], target[:2], LIMIT) is None
    target += np.random.default_rng(2).normal(0, 500, target.shape)
    assert fit_positions(source, target, LIMIT / 100) is None

import numpy as np
import pytest

from tpsfm.evaluation.retrieval import in_view, overlapping, recall, seen_points

K = np.array([[100.0, 0, 49.5], [0, 100, 24.5], [0, 0, 1]])  # 100 x 50 pixels
SIZE = (100, 50)


def test_frustum_edges():
    """At depth 1 the image spans x from -0.5 to 0.5 and y from -0.25 to 0.25."""
    points = np.array(
        [[0, 0, 1], [0.499, 0, 1], [0.501, 0, 1], [-0.501, 0, 1], [0, 0.249, 1], [0, 0.251, 1], [0, 0, -1]]
    )
    assert in_view(points, np.eye(3), np.zeros(3), K, SIZE).tolist() == [True, True, False, False, True, False, False]


def test_frustum_of_a_camera_that_stands_and_looks_elsewhere():
    """At (5, 0, 0), looking along -x: what lies before it at depth 2 is at x = 3."""
    rotation = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    points = np.array([[3, 0, 0], [3, 0, 0.99], [3, 0, 1.01], [7, 0, 0]])
    assert in_view(points, rotation, np.array([5.0, 0, 0]), K, SIZE).tolist() == [True, True, False, False]


def test_overlap_is_a_share_of_the_lesser_set():
    """a sees 10 points, b 12, 2 of them a's: 2 of 10. c sees one point, a's; d none."""
    seen = {name: np.zeros(21, bool) for name in "abcd"}
    seen["a"][:10] = seen["b"][8:20] = seen["c"][0] = True
    assert overlapping(seen, 0.2) == {"a": {"b", "c"}, "b": {"a"}, "c": {"a"}, "d": set()}
    assert overlapping(seen, 0.21) == {"a": {"c"}, "b": set(), "c": {"a"}, "d": set()}


def test_covisibility_is_that_of_the_tracks():
    """Images 1 and 2 share point 7 of 3, images 2 and 3 none."""
    seen = seen_points({"1": np.array([7, 5, 9]), "2": np.array([7, 100, 101]), "3": np.array([3])})
    assert [int((seen["1"] & seen[name]).sum()) for name in "123"] == [3, 1, 0]
    assert overlapping(seen, 1 / 3) == {"1": {"2"}, "2": {"1"}, "3": set()}
    assert overlapping(seen, 0.34) == {"1": set(), "2": set(), "3": set()}
    assert seen_points({"1": np.zeros(0, np.int64)})["1"].shape == (0,)


def test_recall_by_hand():
    """Query 1 finds x second and z never; query 2 finds y first; query 3 overlaps with nothing and doesn't count."""
    found = {"1": ["a", "x", "b"], "2": ["y", "a", "b"], "3": ["a", "b", "c"]}
    truth = {"1": {"x", "z"}, "2": {"y"}, "3": set()}
    assert recall(found, truth, 1) == (0.5, 0.5)
    assert recall(found, truth, 2) == (1.0, pytest.approx((1 / 2 + 1) / 2))
    assert recall(found, truth, 3) == (1.0, pytest.approx((1 / 2 + 1) / 2))
    assert np.isnan(recall({"3": ["a"]}, truth, 1)).all()

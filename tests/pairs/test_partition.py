"""View graphs cut into parts that overlap."""

import numpy as np

from tpsfm.pairs.partition import cut


def flight(rows: int, columns: int) -> dict:
    """Matches of a flight's photos with those before, behind and beside them."""
    rng = np.random.default_rng(0)
    weights = {}
    for row in range(rows):
        for column in range(columns):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                if row + down < rows and 0 <= column + right < columns:
                    pair = f"{row:02}_{column:02}", f"{row + down:02}_{column + right:02}"
                    weights[pair] = float(rng.integers(30, 500))
    return weights


def test_every_photo_is_in_a_part_and_each_part_overlaps_with_one_before():
    weights = flight(20, 20)
    names = {name for pair in weights for name in pair}
    parts = cut(names, weights, largest=80)
    assert set().union(*parts) == names and len(parts) <= 8
    assert all(40 <= len(part) <= 96 for part in parts)
    before = set(parts[0])
    for part in parts[1:]:
        assert len(before & set(part)) >= 8
        before |= set(part)
    shuffled = dict(sorted(weights.items(), reverse=True))
    assert cut(sorted(names, reverse=True), shuffled, largest=80) == parts


def test_few_matches_are_cut_through():
    weights = {(f"{a}{i}", f"{a}{j}"): 100.0 for a in "ab" for i in range(9) for j in range(i + 1, 9)} | {
        ("a3", "b5"): 40
    }
    first, second = cut([f"{a}{i}" for a in "ab" for i in range(9)], weights, largest=12)
    for part, own, other in ((first, "a", "b5"), (second, "b", "a3")):
        assert part == sorted([*(f"{own}{i}" for i in range(9)), other])


def test_what_is_not_connected_is_a_part_of_its_own():
    weights = {("a", "b"): 50.0, ("b", "c"): 50.0, ("x", "y"): 50.0}
    assert cut("abcxyz", weights, largest=100) == [["a", "b", "c"], ["x", "y"], ["z"]]
    assert cut([], {}, largest=100) == []

from itertools import pairwise
from unicodedata import normalize

import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.pairs import selection as pairs


def test_exhaustive():
    assert pairs.exhaustive(["c", "a", "b"]) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs.exhaustive(["a"]) == []


def test_canonical_orders_and_drops_repeats_and_selves():
    assert pairs.canonical([("b", "a"), ("a", "b"), ("a", "a"), ("c", "a")]) == [("a", "b"), ("a", "c")]


def test_sequential_takes_the_next_ones_in_natural_order():
    names = [f"img{i}.jpg" for i in range(1, 13)]  # 'img10' sorts before 'img2' as text
    found = pairs.sequential(names, overlap=1, quadratic=False)
    assert found == pairs.canonical(pairwise(names))
    assert len(pairs.sequential(names, overlap=3, quadratic=False)) == 11 + 10 + 9


def test_sequential_quadratic_adds_powers_of_two():
    names = [f"{i:03d}" for i in range(40)]
    found = pairs.sequential(names, overlap=5)
    assert {int(b) - int(a) for a, b in found} == {1, 2, 3, 4, 5, 8, 16}
    assert ("000", "016") in found and ("023", "039") in found


def test_sequential_orders_mixed_names():
    assert pairs.sequential(["1.jpg", "a.jpg", "a1b2.jpg", "é 3.png"], overlap=4)  # numbers beside text


@pytest.mark.parametrize("overlap", [0, -1])
def test_sequential_refuses_an_overlap_below_one(overlap):
    with pytest.raises(TpsfmError, match="overlap"):
        pairs.sequential(["a", "b"], overlap=overlap)


def test_gps_neighbours_are_the_nearest():
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 100, (300, 3)) + 1e7  # more than one block of rows, far from the origin
    names = [f"{i:03d}" for i in range(300)]
    squared = ((positions[:, None] - positions[None]) ** 2).sum(2)
    np.fill_diagonal(squared, np.inf)
    expected = [(names[i], names[j]) for i in range(300) for j in squared[i].argsort()[:4]]
    assert pairs.from_gps(names, positions, neighbours=4) == pairs.canonical(expected)


def test_gps_unknown_positions():
    positions = np.array([[0, 0, 0], [3, 0, 0], [np.nan] * 3, [100, 0, 0]])
    assert pairs.from_gps(list("abcd"), positions, neighbours=1) == [("a", "b"), ("b", "d")]


def test_gps_needs_two_positions():
    with pytest.raises(TpsfmError, match="1 of 2 photos"):
        pairs.from_gps(["a", "b"], [[0, 0, 0], [np.nan] * 3])


def test_gps_refuses_bad_options():
    with pytest.raises(TpsfmError):
        pairs.from_gps(["a", "b"], np.zeros((2, 3)), neighbours=0)


def test_gps_to_metres():
    # One thousandth of a degree: 110.574 m of latitude and 111.320 m of longitude at the equator.
    found = pairs.gps_to_metres([0, 0.001, 0, np.nan], [0, 0, 0.001, 0], [20, 20, 30, 20])
    np.testing.assert_allclose(found[0], 0, atol=1e-9)
    np.testing.assert_allclose(found[1], [0, 110.574, 0], atol=0.01)
    np.testing.assert_allclose(found[2], [111.320, 0, 10], atol=0.01)
    assert np.isnan(found[3]).all()


def test_gps_to_metres_away_from_the_equator():
    # At 60 degrees north a degree of longitude measures 55.80 km and one of latitude 111.41 km (WGS84).
    found = pairs.gps_to_metres([60, 60, 60.0001], [179.9999, -179.9999, 179.9999], [np.nan, 5, 5])
    np.testing.assert_allclose(found[1], [11.16, 0, 0], atol=0.01)
    np.testing.assert_allclose(found[2], [0, 11.141, 0], atol=0.01)


def test_retrieval_pairs_join_what_looks_alike():
    rng = np.random.default_rng(0)
    scenes = rng.standard_normal((5, 32))
    vectors = {}
    for scene in range(5):
        for view in range(3):
            vector = scenes[scene] + 0.1 * rng.standard_normal(32)
            vectors[f"{scene}/{view}"] = (vector / np.linalg.norm(vector)).astype(np.float32)
    vectors["blank"] = np.zeros(32, np.float32)
    found = pairs.from_retrieval(sorted(vectors), vectors.__getitem__, neighbours=2)
    alike = [(a, b) for a, b in found if a[0] == b[0]]
    assert alike == [(f"{s}/{i}", f"{s}/{j}") for s in range(5) for i, j in [(0, 1), (0, 2), (1, 2)]]
    assert len(found) - len(alike) <= 4 * 3 * pairs.LINKS and "blank" not in {name for pair in found for name in pair}


def test_two_walks_past_the_same_place_are_paired_with_each_other():
    vectors = {}
    for walk in range(2):
        for step in range(60):
            vector = np.array([np.cos(step / 40), np.sin(step / 40), 0.5 * walk], np.float32)
            vectors[f"{walk}/{step:02}"] = vector / np.linalg.norm(vector)
    found = pairs.from_retrieval(list(vectors), vectors.__getitem__, neighbours=10)
    across = [(a, b) for a, b in found if a[0] != b[0]]
    assert len(across) == 60 * pairs.LINKS
    assert max(abs(int(a[2:]) - int(b[2:])) for a, b in across) <= pairs.LINKS


def test_retrieval_pairs_of_few_photos():
    one = np.ones(1, np.float32)
    assert pairs.from_retrieval(["a", "b"], lambda name: one) == [("a", "b")]
    assert pairs.from_retrieval(["a"], lambda name: one) == []
    assert pairs.from_retrieval([], lambda name: one) == []
    with pytest.raises(TpsfmError, match="neighbours"):
        pairs.from_retrieval(["a", "b"], lambda name: one, neighbours=0)


def test_retrieval_pairs_that_close_a_loop_are_far_apart():
    angles = np.arange(40) * 2 * np.pi / 40  # round a block and back to the start
    vectors = {f"{i}": np.array([np.cos(a), np.sin(a)], np.float32) for i, a in enumerate(angles)}
    found = pairs.from_retrieval(list(vectors), vectors.__getitem__, neighbours=2, apart=5)
    steps = [abs(int(a) - int(b)) for a, b in found]
    assert min(steps) == 6 and ("0", "39") in found


NAMES = ["a b.jpg", "c.jpg", "sub folder/ü 1.png", "#1.jpg", " lead.jpg", "d"]


def test_pairs_file_round_trip(tmp_path):
    path = tmp_path / "pairs.txt"
    expected = pairs.exhaustive(NAMES)
    pairs.write_pairs(path, expected)
    assert pairs.read_pairs(path, NAMES) == expected
    assert list(tmp_path.iterdir()) == [path]


def test_pairs_file_of_other_programs(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_bytes("\ufeff# comment\r\nc.jpg a b.jpg\r\n\r\nd \t sub folder/ü 1.png\r\n#1.jpg d\r\n".encode())
    assert pairs.read_pairs(path, NAMES) == [
        ("#1.jpg", "d"),
        ("a b.jpg", "c.jpg"),
        ("d", "sub folder/ü 1.png"),
    ]


@pytest.mark.parametrize("row", ["c.jpg x.jpg", "c.jpg", "c.jpg c.jpg", "c.jpg\td\td", "1 2 3"])
def test_bad_row_is_named(tmp_path, row):
    path = tmp_path / "pairs.txt"
    path.write_text(f"c.jpg d\n{row}\n")
    with pytest.raises(TpsfmError, match=r"row 2 of .*pairs\.txt"):
        pairs.read_pairs(path, NAMES)


def test_ambiguous_row(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("a b c\n")
    with pytest.raises(TpsfmError, match=r"row 1 .*ambiguous"):
        pairs.read_pairs(path, ["a", "a b", "b c", "c"])


def test_pairs_file_absent_empty_or_binary(tmp_path):
    with pytest.raises(TpsfmError, match=r"none\.txt"):
        pairs.read_pairs(tmp_path / "none.txt", NAMES)
    (tmp_path / "pairs.txt").write_text("# nothing\n")
    with pytest.raises(TpsfmError, match="no pair"):
        pairs.read_pairs(tmp_path / "pairs.txt", NAMES)
    (tmp_path / "pairs.txt").write_bytes(bytes(range(255, 0, -1)))
    with pytest.raises(TpsfmError, match="row 1"):
        pairs.read_pairs(tmp_path / "pairs.txt", NAMES)


def test_names_in_a_file_may_be_composed_otherwise(tmp_path):
    names = [normalize("NFD", "Grün.jpg"), normalize("NFC", "Blau ä.jpg")]
    (tmp_path / "pairs.txt").write_text(normalize("NFC", "Grün.jpg") + " " + normalize("NFD", "Blau ä.jpg") + "\n")
    assert pairs.read_pairs(tmp_path / "pairs.txt", names) == [(names[1], names[0])]


def test_parts_are_what_pairs_connect_the_largest_first():
    assert pairs.components("abcdef", [("a", "b"), ("d", "e"), ("e", "f"), ("f", "d")]) == [
        ["d", "e", "f"],
        ["a", "b"],
        ["c"],
    ]
    assert pairs.components([], []) == []

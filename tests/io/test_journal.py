"""What a killed stage goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.io.journal import Journal

JOBS = [(f"job {i}", (i,)) for i in range(6)]


class Squares:
    """A function that remembers what it was called with."""

    __name__ = "_squares"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, number: int) -> Sequence[np.ndarray]:
        self.asked.append(number)
        return [] if number == 1 else [np.full((2, number), number**2), np.array(number, np.float32)]


def as_lists(results) -> list:
    return [(name, [(array.dtype.str, array.tolist()) for array in arrays]) for name, arrays in results]


@pytest.fixture
def whole(tmp_path: Path) -> list:
    return as_lists(Journal(tmp_path / "whole", "key").in_parallel(Squares(), JOBS))


def test_goes_on_where_it_was_left(tmp_path: Path, whole: list) -> None:
    before, after = Squares(), Squares()
    assert as_lists(islice(Journal(tmp_path, "key").in_parallel(before, JOBS), 3)) == whole[:3]
    assert as_lists(Journal(tmp_path, "key").in_parallel(after, JOBS)) == whole
    assert after.asked == [3, 4, 5]


def test_all_that_is_there_is_not_done_again(tmp_path: Path, whole: list) -> None:
    again = Squares()
    assert as_lists(Journal(tmp_path / "whole", "key").in_parallel(again, JOBS)) == whole
    assert again.asked == []


@pytest.mark.parametrize("lost", [1, 100, 10_000])
def test_half_a_record_is_done_again(tmp_path: Path, whole: list, lost: int) -> None:
    path = tmp_path / "whole" / "squares"
    path.write_bytes(path.read_bytes()[:-lost])
    again = Squares()
    assert as_lists(Journal(tmp_path / "whole", "key").in_parallel(again, JOBS)) == whole
    assert again.asked and again.asked == list(range(again.asked[0], 6))


def test_results_of_another_key_are_of_no_use(tmp_path: Path, whole: list) -> None:
    again = Squares()
    assert as_lists(Journal(tmp_path / "whole", "other").in_parallel(again, JOBS)) == whole
    assert again.asked == list(range(6))


def test_a_folder_that_cant_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TpsfmError, match="taken"):
        list(Journal(tmp_path / "taken", "key").in_parallel(Squares(), JOBS))

"""Lists of queries, and the row of one that is bad."""

from unicodedata import normalize

import pytest

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera
from tpsfm.localization.queries import list_queries


def test_a_list_with_intrinsics(tmp_path):
    path = tmp_path / "night.txt"
    path.write_text(
        "# name MODEL width height params\n\nquery/a b.jpg SIMPLE_RADIAL 1600 1200 1450.5 800 600 -0.02\nplain.jpg\n"
    )
    root, queries = list_queries(path)
    assert root == tmp_path and [query.name for query in queries] == ["query/a b.jpg", "plain.jpg"]
    assert queries[0].camera == Camera("SIMPLE_RADIAL", 1600, 1200, [1450.5, 799.5, 599.5, -0.02])
    assert queries[1].camera is None
    with pytest.raises(TpsfmError, match="no folder"):
        list_queries(path, tmp_path / "images")
    (tmp_path / "images").mkdir()
    assert list_queries(path, tmp_path / "images")[0] == tmp_path / "images"


@pytest.mark.parametrize(
    "row",
    [
        "a.jpg SIMPLE_RADIAL 1600 1200 1450 800 600",
        "a.jpg NO_MODEL 1600 1200 1450 800 600",
        "a.jpg PINHOLE 1600 1200 0 1450 800 600",
        "a.jpg PINHOLE 1600 1200 1450 1450 800 six",
        "a.jpg 1600 1200",
        "first.jpg",
        "./first.jpg",
        "../a.jpg",
        "/a.jpg PINHOLE 1600 1200 1450 1450 800 600",
        "a\0.jpg",
        "long name " * 100,
    ],
)
def test_a_bad_row_is_named_by_its_number(row, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"first.jpg\n\n{row}\n")
    with pytest.raises(TpsfmError, match=f"row 3 of {path}"):
        list_queries(path)


def test_other_bad_queries(tmp_path):
    for name in ("missing.jpg", "missing.txt", "long" * 100):
        with pytest.raises(TpsfmError, match=name):
            list_queries(tmp_path / name)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(TpsfmError, match="names no query"):
        list_queries(tmp_path / "empty.txt")


def test_names_that_are_written_otherwise(tmp_path):
    folder = tmp_path / "Türen"  # composed
    folder.mkdir()
    decomposed = normalize("NFD", "Grün.jpg")
    (folder / decomposed).touch()
    lists = {
        "composed.txt": "Türen/Grün.jpg",
        "decomposed.txt": normalize("NFD", "Türen/Grün.jpg"),
        "absolute.txt": str(folder / decomposed),
        "camera.txt": "Türen/Grün.jpg SIMPLE_PINHOLE 640 480 500 320 240",
    }
    for name, row in lists.items():
        (tmp_path / name).write_text(row)
        assert [query.name for query in list_queries(tmp_path / name)[1]] == [f"Türen/{decomposed}"], name
    root, (query,) = list_queries(tmp_path / "absolute.txt", "/")
    assert (root / query.name).is_file()

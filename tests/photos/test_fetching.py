"""Photos of an object store are copied into the workspace, the changed ones again."""

import fsspec
import pytest

import tpsfm
from tpsfm.errors import TpsfmError
from tpsfm.photos.fetching import local_folder
from tpsfm.progress import Progress

URL = "memory://bucket/photos"


@pytest.fixture
def store(courtyard):
    """A store with four photos, one of them in a folder, and what is no photo."""
    files = fsspec.filesystem("memory")
    for photo in sorted((courtyard / "images").iterdir())[:4]:
        folder = "near/" if "002" in photo.name else ""
        files.pipe(f"/bucket/photos/{folder}{photo.name}", photo.read_bytes())
    for name in ("notes.txt", ".hidden.jpg", ".cache/thumb.jpg"):
        files.pipe(f"/bucket/photos/{name}", b"")
    files.pipe("/bucket/photos2/other.jpg", b"")
    yield files
    files.rm("/bucket", recursive=True)


def names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.name != ".fetched")


def test_a_map_of_photos_in_a_store_goes_on_with_what_has_changed(store, tmp_path):
    options = {"features": "sift", "max_keypoints": 1000, "threads": 1, "align": False}
    workspace = tpsfm.reconstruct(URL, tmp_path / "map", **options)
    folder = tmp_path / "map" / "photos"
    assert workspace.images == folder
    assert names(folder) == ["near/view_002.jpg", "view_000.jpg", "view_001.jpg", "view_003.jpg"]
    assert set(workspace.manifest["photos"]) == set(names(folder))
    before = dict(workspace.manifest["photos"])
    stamps = {name: (folder / name).stat().st_mtime_ns for name in names(folder)}

    store.pipe("/bucket/photos/view_003.jpg", store.cat("/bucket/photos/view_000.jpg"))
    store.rm("/bucket/photos/view_001.jpg")
    again = tpsfm.Workspace.open(tmp_path / "map")
    assert local_folder(f"{URL}/", again.root, Progress()) == folder
    assert {name for name in names(folder) if (folder / name).stat().st_mtime_ns != stamps[name]} == {"view_003.jpg"}
    assert names(folder) == ["near/view_002.jpg", "view_000.jpg", "view_003.jpg"]
    features = tpsfm.Stages.of(**options).features
    with again.locked():
        features.run(again)
    assert {name for name, key in again.manifest["photos"].items() if before[name] != key} == {"view_003.jpg"}


def test_what_was_fetched_before_a_kill_is_not_fetched_again(store, tmp_path, monkeypatch):
    folder = local_folder(URL, tmp_path, Progress())
    known = (folder / ".fetched").read_text()
    (folder / ".fetched").write_text(known[: known.index("\n") + 9])
    fetched = []
    get = type(store).get_file
    monkeypatch.setattr(type(store), "get_file", lambda self, path, *a: fetched.append(path) or get(self, path, *a))
    local_folder(URL, tmp_path, Progress())
    assert len(fetched) == 3 and known.splitlines()[0].split("\t")[0] not in "".join(fetched)
    local_folder(URL, tmp_path, Progress())
    assert len(fetched) == 3


def test_what_is_wrong_is_told_in_one_line(store, tmp_path):
    for url, said in (
        ("memory://nothing", "no images at memory://nothing: none of its 0 files"),
        ("nosuch://bucket", "cannot list nosuch://bucket: Protocol not known: nosuch"),
    ):
        with pytest.raises(TpsfmError, match=said) as told:
            local_folder(url, tmp_path, Progress())
        assert "\n" not in str(told.value)
    assert local_folder("photos", tmp_path, Progress()).as_posix() == "photos"

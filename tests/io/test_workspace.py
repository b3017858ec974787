"""The workspace: what it refuses, its manifest, its lock, its log, the map it remembers."""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace, digest, last_map, remember_map


def test_a_new_workspace_and_its_paths(tmp_path):
    root = tmp_path / "a b" / "öut"
    workspace = Workspace.open(root, create=True)
    assert [entry.name for entry in root.iterdir()] == ["run.json"]
    assert workspace.features == root / "features.h5"
    assert workspace.database == root / "database.db"
    manifest = json.loads(workspace.run.read_text())
    assert manifest == workspace.manifest
    assert manifest["stages"] == {} and manifest["versions"]["numpy"]


def test_stages_are_remembered_by_their_keys(tmp_path):
    workspace = Workspace.open(tmp_path, create=True)
    assert not workspace.is_done("extract", "k1")
    workspace.finish("extract", "k1", 1.23456, images=3, skipped=["ü.jpg"])
    workspace.finish("match", "k2", 2.0)
    workspace.manifest["images"] = "photos"
    workspace.save()
    again = Workspace.open(tmp_path)
    assert again.is_done("extract", "k1") and not again.is_done("extract", "other")
    assert again.manifest["images"] == "photos"
    assert again.manifest["stages"]["extract"] == {
        "key": "k1",
        "seconds": 1.235,
        "counts": {"images": 3, "skipped": ["ü.jpg"]},
    }
    again.start("extract")
    third = Workspace.open(tmp_path, create=True)
    assert not third.is_done("extract", "k1") and third.is_done("match", "k2")


def test_what_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    for create in (False, True):
        with pytest.raises(TpsfmError, match="file is a file"):
            Workspace.open(tmp_path / "file", create)
        with pytest.raises(TpsfmError, match="not a workspace"):
            Workspace.open(tmp_path / "photos", create)
    with pytest.raises(TpsfmError, match=r"cannot open workspace .*below: Not a directory"):
        Workspace.open(tmp_path / "file" / "below", create=True)
    with pytest.raises(TpsfmError, match="not a workspace"):
        Workspace.open(tmp_path / "none")
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["a.jpg", "file", "photos"]


ATTEMPTS = """
import os, sys
from pathlib import Path
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
root = Path(sys.argv[1])
with Workspace.open(root / "before", create=True).locked():
    pass  # all that it imports is imported
for name in ("done", "new"):
    (root / name).chmod(0o555)
if os.getuid() == 0:  # to whom nothing is closed
    os.setgid(65534), os.setuid(65534)
for attempt in (
    lambda: Workspace.open(root / "done"),
    lambda: Workspace.open(root / "done", create=True),
    lambda: Workspace.open(root / "new", create=True),
    lambda: Workspace.open(root / "new" / "below", create=True),
    lambda: Workspace.open(root / "done").locked().__enter__(),
):
    try:
        attempt()
        print("works")
    except TpsfmError as error:
        print(error)
"""


def test_an_unwritable_folder_is_refused_but_can_be_read():
    with tempfile.TemporaryDirectory() as root:  # pytest's folders are closed to other users
        os.chmod(root, 0o755)
        Workspace.open(f"{root}/done", create=True)
        os.mkdir(f"{root}/new")
        run = subprocess.run([sys.executable, "-c", ATTEMPTS, root], capture_output=True, text=True)
    works, *refused = run.stdout.splitlines()
    assert works == "works" and len(refused) == 4, run.stderr
    assert all(line.startswith("cannot") and root in line for line in refused)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", '{"stages": []}', '{"stages": {"a": 1}}', '{"options": 1}', "\xff", '{"images": 3}',
        '{"photos": []}', '{"photos": {"a.jpg": 1}}', '{"turns": {"a.jpg": null}}', '{"video": {}}', '{"result": 4}',
        '{"stages": {"map": {"key": "k", "seconds": 1}}}',
        '{"stages": {"map": {"key": 1, "seconds": 1, "counts": {}}}}',
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_told_and_left_alone(tmp_path, text):
    workspace = Workspace.open(tmp_path, create=True)
    workspace.run.write_bytes(text.encode("latin-1"))
    with pytest.raises(TpsfmError, match=r"run\.json is damaged .* write \{\} into it") as error:
        Workspace.open(tmp_path, create=True)
    assert "\n" not in str(error.value)
    assert workspace.run.read_bytes() == text.encode("latin-1")
    workspace.run.write_text("{}")  # the remedy it names
    assert Workspace.open(tmp_path).manifest["stages"] == {}


def test_a_manifest_of_another_format_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(TpsfmError, match="format 99"):
        Workspace.open(tmp_path)


def test_the_manifest_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    workspace = Workspace.open(tmp_path, create=True)
    content = workspace.run.read_bytes()
    workspace.manifest["options"] = {"not": object()}
    with pytest.raises(TypeError):
        workspace.save()
    assert workspace.run.read_bytes() == content
    workspace.manifest["options"] = {}

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TpsfmError, match=r"cannot write .*run\.json: No space left"):
        workspace.finish("extract", "key", 1.0)
    assert workspace.run.read_bytes() == content


HOLDER = """
import sys
from tpsfm.io.workspace import Workspace
with Workspace.open(sys.argv[1]).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_and_the_lock_dies_with_it(tmp_path):
    workspace = Workspace.open(tmp_path, create=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "locked\n"
    for _ in range(2):  # asking does not spoil what the holder wrote
        with pytest.raises(TpsfmError, match=rf"process {holder.pid}\)") as error, workspace.locked():
            pass
        assert "\n" not in str(error.value)
    Workspace.open(tmp_path)  # reading goes on
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with (
        workspace.locked(),
        pytest.raises(TpsfmError, match=f"process {os.getpid()}"),
        Workspace.open(tmp_path).locked(),
    ):
        pass
    with workspace.locked():  # and again
        pass


def test_a_folder_where_creation_was_killed_can_be_taken(tmp_path):
    (tmp_path / ".run.json.part").write_text("{")
    Workspace.open(tmp_path, create=True)


def test_what_is_logged_under_the_lock_is_in_the_log(tmp_path):
    workspace = Workspace.open(tmp_path, create=True)
    log = logging.getLogger("tpsfm")
    before = (log.level, list(log.handlers))
    with workspace.locked():
        log.info("matched ü.jpg")
        log.debug("not this")
    log.info("nor this")
    with pytest.raises(ZeroDivisionError), workspace.locked():
        log.warning("second run")
        raise ZeroDivisionError
    lines = workspace.log.read_text(encoding="utf-8").splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == ["INFO matched ü.jpg", "WARNING second run"]
    assert (log.level, log.handlers) == before


def test_digest_depends_on_the_value_alone():
    value = {"b": [1, 2.5, None, "ü"], "a": {"x": True}}
    assert digest(value) == digest({"a": {"x": True}, "b": (1, 2.5, None, "ü")})
    assert digest(value) == "941e446db13df73427fb814a37fd9a02"  # the same in every process and version
    assert digest(value) != digest({"b": [1, 2.5, None, "u"], "a": {"x": True}})
    assert digest("1") != digest(1)


def test_the_last_map_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert last_map() is None
    Workspace.open("../ö map", create=True)
    remember_map("../ö map")
    assert last_map() == tmp_path / "ö map"
    assert last_map(tmp_path) is None
    monkeypatch.chdir(tmp_path)
    assert last_map() is None
    assert last_map("here") == tmp_path / "ö map"
    Workspace.open("second", create=True)
    remember_map("second", "here")
    assert last_map("here") == tmp_path / "second"
    (tmp_path / "second" / "run.json").unlink()
    assert last_map("here") is None


def test_a_cache_that_can_not_be_written_spoils_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember_map(tmp_path)
    assert last_map() is None

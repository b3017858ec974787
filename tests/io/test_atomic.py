"""A file is replaced whole or not at all."""

import os
import subprocess
import sys
import time

import pytest

from tpsfm.errors import TpsfmError
from tpsfm.io.atomic import write_atomic

WRITER = """
import sys
from tpsfm.io.atomic import write_atomic
from pathlib import Path
for i in range(100000):
    write_atomic(Path(sys.argv[1]), str(i % 10) * 200000)
    if not i:
        print("begun", flush=True)
"""


def test_text_and_bytes_take_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "ü.txt"
    write_atomic(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    write_atomic(path, b"\0\xff")
    assert path.read_bytes() == b"\0\xff"
    assert os.listdir(tmp_path) == ["ü.txt"]


def test_killed_at_any_moment_the_file_is_whole(tmp_path):
    path = tmp_path / "file"
    for seconds in (0.0, 0.013, 0.05, 0.2):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "begun\n"
        time.sleep(seconds)
        writer.kill()
        writer.communicate()
        content = path.read_text()
        assert len(content) == 200000 and len(set(content)) == 1


def test_what_can_not_be_written_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TpsfmError, match=r"cannot write .*file: No space left on device"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    with pytest.raises(TpsfmError, match="cannot write"):
        write_atomic(tmp_path / "none" / "file", "new")

"""The plumbing of the pipelines: rows computed once, tables, honest resumption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tpr.weights import shipped_weights

from pipelines.common import Results, in_process, machine, peak_memory, weights_version
from tpsfm import TpsfmError

ROOT = Path(__file__).parents[2]


def test_a_finished_row_is_not_computed_again(tmp_path):
    Results(tmp_path, "Test").row("a", lambda: {"x": 1})
    again = Results(tmp_path, "Test")
    assert again.row("a", lambda: {"x": 2}) == {"x": 1}
    assert again.row("b", lambda: {"x": 3}) == {"x": 3}


def test_a_row_that_fails_leaves_the_others(tmp_path):
    results = Results(tmp_path, "Test")
    results.row("a", lambda: {"x": 1})
    with pytest.raises(ZeroDivisionError):
        results.row("b", lambda: {"x": 1 / 0})
    assert Results(tmp_path, "Test").rows == {"a": {"x": 1}}


def test_rows_of_other_options_are_refused(tmp_path):
    Results(tmp_path, "Test", {"keypoints": 1}).row("a", lambda: {"x": 1})
    with pytest.raises(TpsfmError, match="other options"):
        Results(tmp_path, "Test", {"keypoints": 2})
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(TpsfmError, match="no results"):
        Results(tmp_path, "Test", {"keypoints": 1})


def test_values_become_plain(tmp_path):
    row = Results(tmp_path, "Test").row("a", lambda: {"x": np.float32(0.5), "y": np.arange(2), "z": float("inf")})
    assert row == {"x": 0.5, "y": [0, 1], "z": None}
    assert json.loads((tmp_path / "results.json").read_text())["rows"]["a"] == row


def test_table_and_files(tmp_path, capsys):
    results = Results(tmp_path, "Test", {"keypoints": 5})
    results.row("a", lambda: {"x": 1.25, "y": None})
    results.table({"x": ".1f", "y": ".1f"})
    results.write()
    table = "| | x | y |\n|---|---|---|\n| a | 1.2 | – |"
    assert table in capsys.readouterr().out
    text = (tmp_path / "results.md").read_text()
    assert table in text and "# Test" in text and "keypoints 5" in text and "python" in text
    assert json.loads((tmp_path / "results.json").read_text())["machine"] == machine()


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Results(None, "Test")
    assert results.row("a", lambda: {"x": 1}) == {"x": 1}
    results.write()
    assert not list(tmp_path.iterdir())


def test_machine_and_memory():
    told = machine()
    assert told["cores"] >= 1 and told["cpu"] and {"torch", "pycolmap", "opencv", "tpsfm", "python", "gpu"} <= set(told)
    before = peak_memory()
    block = np.ones(64 << 20, np.uint8)
    assert peak_memory() >= before and peak_memory() > block.nbytes / 2**20


def test_a_fresh_process_tells_its_own_peak():
    block = np.ones(300 << 20, np.uint8)
    (result, small), (_, large) = in_process(sum, [1, 2]), in_process(np.ones, 100 << 20, np.uint8)
    assert result == 3 and large > small + 99
    assert small < peak_memory() and block.any()


def test_what_goes_wrong_in_a_process_comes_through():
    with pytest.raises(TpsfmError, match="no photos"):
        in_process(fail)
    with pytest.raises(TpsfmError, match="ended its process"):
        in_process(os._exit, 1)


def fail():
    raise TpsfmError("no photos")


def test_weights_version(tmp_path):
    assert weights_version(None) == weights_version(shipped_weights())
    with pytest.raises(TpsfmError, match="no weights"):
        weights_version(tmp_path / "none")


def test_every_benchmark_runs_as_a_module():
    names = [path.stem for path in (ROOT / "pipelines").glob("*.py") if "__main__" in path.read_text()]
    assert len(names) > 8
    script = (
        "import runpy, sys\n"
        "for name in sys.argv[1:]:\n"
        "    sys.argv = [name, '--help']\n"
        "    try:\n"
        "        runpy.run_module(f'pipelines.{name}', run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as done:\n"
        "        assert done.code == 0, name\n"
        "assert not {'common', 'chains', 'localization', 'retrieval'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: ") == len(names)


def test_a_function_of_the_module_that_is_run_works_in_a_process(tmp_path):
    (tmp_path / "benchmark.py").write_text(
        "from pipelines.common import in_process\n"
        "def double(number): return 2 * number\n"
        "if __name__ == '__main__': print(in_process(double, 21)[0])\n"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "benchmark"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "42\n", done.stderr

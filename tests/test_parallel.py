"""Work ahead in threads, and the devices it may run on."""

import os
import subprocess
import sys
import time

import pytest
import torch

from tpsfm.device import choose_device
from tpsfm.errors import TpsfmError
from tpsfm.parallel import in_parallel


def test_results_come_in_order_and_jobs_are_drawn_only_a_little_ahead():
    drawn = []

    def jobs():
        for number in range(10):
            drawn.append(number)
            yield f"job {number}", (number, 0.02 * (number % 2 == 0))

    def square(number, seconds):
        time.sleep(seconds)
        return number**2

    results = in_parallel(square, jobs(), threads=3, ahead=2)
    assert next(results) == ("job 0", 0) and drawn == [0, 1, 2]
    assert list(results) == [(f"job {number}", number**2) for number in range(1, 10)]
    assert list(in_parallel(square, [], threads=3, ahead=2)) == []


def test_fewer_jobs_at_once_share_the_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(7)
    try:
        results = in_parallel(torch.get_num_threads, ((number, ()) for number in range(4)), most=2)
        assert [threads for _, threads in results] == [3] * 4
        assert torch.get_num_threads() == 7
    finally:
        torch.set_num_threads(before)


def test_threads_that_wait_for_each_other_soon_sleep():
    asked = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    code = "import os, tpsfm; print(os.environ['GOMP_SPINCOUNT'])"
    for environment, count in ((asked, "2000"), (asked | {"GOMP_SPINCOUNT": "7"}, "7")):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == count


def test_what_a_job_raises_comes_through():
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(divmod, [("fine", (1, 1)), ("wrong", (1, 0))], threads=1, ahead=4))


def test_devices(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(TpsfmError, match="no device 'toaster'"):
        choose_device("toaster")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda:1", "mps", "mps:0"):
        with pytest.raises(TpsfmError, match=f"device '{name}': no GPU"):
            choose_device(name)

"""The same map on the workers of a Dask cluster, one of them killed, the scheduler restarted, and others refused."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tpsfm
from tests.support import onworker
from tpsfm import cluster
from tpsfm.errors import TpsfmError
from tpsfm.progress import Progress

pytest.importorskip("distributed")
OPTIONS = {"max_keypoints": 1000, "threads": 1, "features": "sift", "screening_keypoints": 256, "align": False}


@pytest.fixture(scope="module")
def images(courtyard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("four") / "images"
    folder.mkdir()
    for photo in sorted((courtyard / "images").iterdir())[:4]:
        shutil.copy(photo, folder)
    (folder / "not a photo.jpg").write_bytes((folder / "view_000.jpg").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def workers():
    """Two local workers, both there."""
    opened = cluster.connect(None, 2, Progress())
    while opened.threads < 2:
        time.sleep(0.1)
    yield opened
    cluster.disconnect()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def model_bytes(root: Path) -> list[bytes]:
    return [(root / "sparse" / name).read_bytes() for name in ("cameras.bin", "images.bin", "points3D.bin")]


@pytest.mark.parametrize("features", ["sift", "tpr"])
def test_the_map_is_the_same_as_in_one_process_though_a_worker_is_killed(features, images, tmp_path, monkeypatch):
    options = OPTIONS | {"features": features, "turned": False}
    alone = tpsfm.reconstruct(images, tmp_path / "alone", **options)
    said = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text))

    def kill() -> None:
        while not any(opened.threads for opened in cluster._open.values()):
            time.sleep(0.01)
        (opened,) = cluster._open.values()
        worker = next(iter(opened._client.run(os.getpid).values()))
        os.kill(worker, signal.SIGKILL)
        killed.append(worker)

    killed: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()
    together = tpsfm.reconstruct(images, tmp_path / "together", workers=2, **options)
    killer.join()
    assert killed and "2 threads at tcp://127.0.0.1" in said[0]
    assert model_bytes(together.root) == model_bytes(alone.root)
    assert together.manifest["photos"] == alone.manifest["photos"]
    assert together.manifest["unreadable"].keys() == alone.manifest["unreadable"].keys() == {"not a photo.jpg"}
    assert not {"cluster", "workers"} & together.manifest["options"].keys()
    assert not cluster._open  # the workers are gone


def test_results_come_in_order_and_errors_come_through(workers):
    jobs = ((f"job {number}", (number,)) for number in range(23))
    found = list(workers.run(onworker.square, jobs, 1))
    assert found == [(f"job {number}", number**2 + 1) for number in range(23)]
    with pytest.raises(TypeError):
        list(workers.run(onworker.square, [("job", ("text",))], 1))


def test_jobs_are_sent_in_batches_of_a_second(workers):
    def sizes(seconds: float, count: int) -> list[int]:
        jobs = ((number, (number,)) for number in range(count))
        return [size for _, size in workers.run(onworker.size_of_batch, jobs, seconds)]

    assert max(sizes(0.6, 6)) == 1
    quick = sizes(0.001, 400)
    assert quick[0] == 1 and 32 <= max(quick) <= cluster._MOST


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_workers_keep_the_memory_of_arrays(workers):
    jobs = [(number, (number,)) for number in range(400)]
    found = [faults for _, faults in workers.run(onworker.page_faults, jobs)]
    assert found[-1] < 256  # the pages of one array


def test_without_any_worker_left_a_run_ends_with_one_line(monkeypatch):
    alone = cluster.Cluster(None, 1)
    while not alone.threads:
        time.sleep(0.1)
    monkeypatch.setattr(cluster, "_PATIENCE", 2.0)
    try:
        found = alone.run(onworker.slow_square, ((number, (number,)) for number in range(3)), 0.1)
        assert next(found) == (0, 0)
        nannies, workers = (alone._client.run(os.getpid, nanny=nanny).values() for nanny in (True, False))
        for process in (*nannies, *workers):  # a nanny would start its worker again
            os.kill(process, signal.SIGKILL)
        with pytest.raises(TpsfmError, match=r"no worker of the cluster tcp://.* is left; run again"):
            list(found)
    finally:
        alone.close()


def test_workers_that_wait_take_next_to_nothing(workers):
    def seconds(of_nannies: bool) -> float:
        return sum(workers._client.run(onworker.process_seconds, nanny=of_nannies).values())

    start, before = time.monotonic(), seconds(False) + seconds(True)
    time.sleep(3)
    assert seconds(False) + seconds(True) - before < 0.04 * (time.monotonic() - start)


def test_a_worker_with_another_tpsfm_is_refused(workers, monkeypatch):
    monkeypatch.setattr(cluster, "identity", lambda: "another")
    with pytest.raises(TpsfmError, match=r"the worker tcp://.* has another version of tpsfm"):
        list(workers.run(onworker.square, [("job", (1,))], 1))


def test_a_worker_with_other_weights_is_refused(workers):
    from tpsfm.reconstruction import remote
    from tpsfm.reconstruction.features import Extraction

    stage = Extraction(features="sift")
    other = stage.extractor().fingerprint | {"weights": "other"}
    with pytest.raises(TpsfmError, match="sift on a worker has other weights than here"):
        list(workers.run(remote.extract, [("photo", (None, b"", None))], stage, other))


def dask(*arguments: str) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], **quiet)


def test_a_scheduler_that_is_restarted_costs_what_was_under_way(free_port):
    address = f"tcp://127.0.0.1:{free_port}"
    started = [dask("scheduler", "--host", "127.0.0.1", "--port", str(free_port), "--no-dashboard")]
    started.append(dask("worker", address, "--no-dashboard", "--nthreads", "1", "--no-nanny"))
    there = None
    try:
        deadline = time.monotonic() + 60
        while there is None:
            try:
                there = cluster.Cluster(address)
            except TpsfmError:
                assert time.monotonic() < deadline
        found = there.run(onworker.slow_square, ((number, (number,)) for number in range(12)), 0.1)
        assert next(found) == (0, 0)
        started[0].kill()
        started[0].wait()
        started.append(dask("scheduler", "--host", "127.0.0.1", "--port", str(free_port), "--no-dashboard"))
        started.append(dask("worker", address, "--no-dashboard", "--nthreads", "1", "--no-nanny"))
        assert list(found) == [(number, number**2) for number in range(1, 12)]
    finally:
        if there is not None:
            there.close()
        for process in started:
            process.kill()
            process.wait()


def test_what_is_wrong_is_told_in_one_line(images, tmp_path, free_port):
    with pytest.raises(TpsfmError, match=f"no Dask scheduler answers at tcp://127.0.0.1:{free_port}"):
        tpsfm.reconstruct(images, tmp_path / "out", cluster=f"tcp://127.0.0.1:{free_port}", **OPTIONS)
    with pytest.raises(TpsfmError, match="leave out --workers"):
        tpsfm.reconstruct(images, tmp_path / "out", cluster="tcp://127.0.0.1:1", workers=2, **OPTIONS)

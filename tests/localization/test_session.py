"""Many queries in one go, by the command: what it leaves, what it says, and that no bad one stops it."""

import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import tpsfm
from tests.support.localizing import HELD, command, noise
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.localization.output import read_queries


@pytest.fixture(scope="module")
def session(held_out, tmp_path_factory):
    """Two good queries in a subfolder, one foreign with a wicked name, one broken: the results' folder and output."""
    out = tmp_path_factory.mktemp("session")
    (out / "night" / "phone").mkdir(parents=True)
    for name in HELD:
        shutil.copy(held_out / "queries" / name, out / "night" / "phone")
    cv2.imwrite(str(out / "night" / "<b>x & y.png"), noise())
    (out / "night" / "broken.jpg").write_bytes(b"no image")
    status, said = command("localize", "--query", out / "night", "--map", held_out / "map", "--out", out / "results")
    return out, status, said


def test_a_session_goes_on_past_bad_queries(session):
    out, status, said = session
    assert status == 3
    assert "2 of 4 photos" in said and "broken.jpg" in said
    rows = [row.split(" ") for row in (out / "results" / "poses.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == [f"phone/{name}" for name in HELD]
    entries = {entry["name"]: entry for entry in json.loads((out / "results/localization.json").read_text())["results"]}
    assert len(entries) == 4
    for name, *numbers in rows:
        pose = entries[name]["pose"]
        assert np.allclose(np.array(numbers, float), pose["quaternion_wxyz"] + pose["translation"])
        assert entries[name]["position_uncertainty"] > 0 and entries[name]["retrieved"]
    assert entries["broken.jpg"]["pose"] is None and entries["broken.jpg"]["reason"]


def test_the_page_needs_nothing_else(session):
    page = (session[0] / "results" / "localization.html").read_text()
    assert "&lt;b&gt;x &amp; y.png" in page and "<b>x" not in page
    assert page.count("data:image/jpeg;base64,") >= 3
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)


def test_results_are_viewed_with_the_map(session, held_out, tmp_path):
    workspace = Workspace.open(held_out / "map")
    queries, folder = read_queries(session[0] / "results", workspace)
    assert sorted(queries.images) == [f"phone/{name}" for name in HELD]
    assert folder == (session[0] / "night").resolve()
    assert queries.cameras[queries.images[f"phone/{HELD[0]}"].camera_id].width == 480
    with pytest.raises(TpsfmError, match="run 'tpsfm localize'"):
        read_queries(tmp_path, workspace)
    content = json.loads((session[0] / "results" / "localization.json").read_text())
    entry = next(entry for entry in content["results"] if entry["pose"])
    for part, change in (
        ("camera", {"model": "NONE"}),
        ("camera", {"params": [1]}),
        ("camera", {"width": "six"}),
        ("pose", {"translation": [float("nan")] * 3}),
    ):
        damaged = {**content, "results": [{**entry, part: {**entry[part], **change}}]}
        (tmp_path / "localization.json").write_text(json.dumps(damaged))
        with pytest.raises(TpsfmError, match="is damaged"):
            read_queries(tmp_path, workspace)
    (tmp_path / "localization.json").unlink()
    assert command("view", held_out / "map", "--queries", tmp_path, "--snapshot", tmp_path / "a.png")[0] == 1


def test_results_of_another_map_are_not_shown(session, held_out, tmp_path):
    results = session[0] / "results"
    moved = tmp_path / "moved"
    shutil.copytree(held_out / "map", moved)
    snapshot = ("--queries", results, "--snapshot", tmp_path / "a.png")
    assert command("view", moved, *snapshot)[0] == 0
    images = moved / "sparse" / "images.bin"
    data = bytearray(images.read_bytes())
    data[12] ^= 1  # in the first rotation
    images.write_bytes(data)
    status, said = command("view", moved, *snapshot)
    assert status == 1 and said.count("\n") == 1
    assert f"{results} are of another map (in {held_out / 'map'})" in said and str(moved) in said


def test_exit_status_and_the_last_map(held_out, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    good = held_out / "queries" / HELD[0]
    status, said = command("localize", "--query", good)
    assert status == 1 and "--map" in said
    from tpsfm.io.workspace import remember_map

    remember_map(held_out / "map")
    status, said = command("localize", "--query", good, "--out", "found")
    assert status == 0 and f"{held_out / 'map'}, the last one" in said
    cv2.imwrite("foreign.png", noise())
    assert command("localize", "--query", "foreign.png", "--out", "none")[0] == 1
    assert (tmp_path / "none" / "poses.txt").read_text() == ""


def test_results_that_cannot_be_written_are_told_at_the_start(held_out, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "localization.json").mkdir(parents=True)
    (tmp_path / "locked").mkdir(mode=0o555)
    outs = [tmp_path / "file", tmp_path / "file" / "out", tmp_path / "taken"]
    outs.append(tmp_path / "locked" if os.geteuid() else Path("/proc"))
    for out in outs:
        status, said = command("localize", "--query", held_out / "queries", "--map", tmp_path / "none", "--out", out)
        assert status == 1 and said.startswith("Error: can't write") and str(out) in said and said.count("\n") == 1


def test_masks_of_queries_are_taken_as_those_of_the_maps_photos_are(held_out, held_out_map, tmp_path):
    shutil.copytree(held_out / "queries", tmp_path / "queries")
    masks = tmp_path / "queries" / "masks"
    masks.mkdir()
    mask = np.zeros((360, 480), np.uint8)
    mask[:, :200] = 255
    cv2.imwrite(str(masks / f"{HELD[0]}.png"), mask)
    results = tpsfm.localize(tmp_path / "queries", held_out_map, tmp_path / "out", masks=masks)
    assert [result.name for result in results] == list(HELD) and all(result.pose for result in results)
    assert [result.lines[:, 0].max() < 200 for result in results] == [True, False]
    run = ("localize", "--query", tmp_path / "queries", "--map", held_out / "map", "--out", tmp_path / "out")
    cv2.imwrite(str(masks / f"{HELD[0]}.png"), mask[:, :100])
    status, said = command(*run, "--masks", masks)
    assert status == 3 and "kept                1 of 2" in said and "is 100x360 but its photo" in said
    assert "masks: 1 of 2 photos have one" in said and f"without: {HELD[1]}" in said
    status, said = command(*run, "--masks", tmp_path / "none")
    assert status == 1 and "no folder of masks" in said

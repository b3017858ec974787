"""Two places that look alike are told where the map takes them for one."""

import shutil
from pathlib import Path

import pytest

import tpsfm
from tests.support.localizing import command
from tests.support.lookalike import render
from tpsfm.alignment.confirmation import Confirmation
from tpsfm.colmap import read_model
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction.lookalikes import Lookalikes, between_places, conflicts

OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1, "turned": False}


@pytest.fixture(scope="module")
def merged(tmp_path_factory) -> Workspace:
    """Five photos of each of two equal facades with unlike surroundings: one map."""
    root = tmp_path_factory.mktemp("alike")
    render(root)
    return tpsfm.reconstruct(root / "images", root / "map", **OPTIONS)


def test_photos_of_two_places_that_look_alike_are_named(merged):
    assert len(read_model(merged.sparse).images) == 10  # the map is wrong
    found = merged.manifest["stages"]["lookalikes"]["counts"]["conflicts"]
    assert len(found) >= 10
    assert all({first[0], second[0]} == {"a", "b"} for first, second, *_ in found)
    told, report = command("info", merged.root)[1], merged.report.read_text()
    first, second, *_ = found[0]
    assert f"{first} and {second}: " in told and "may show two places that look alike" in told
    assert f"{first} and {second} may show two places that look alike" in report
    assert f"{first} and {second} first: the map may take two places" in merged.log.read_text()


def test_one_place_is_not_suspected(merged, tmp_path):
    (tmp_path / "images").mkdir()
    for photo in sorted(Path(merged.manifest["images"]).glob("a*")):
        shutil.copy(photo, tmp_path / "images")
    workspace = tpsfm.reconstruct(tmp_path / "images", tmp_path / "map", **OPTIONS)
    assert workspace.manifest["stages"]["lookalikes"]["counts"]["conflicts"] == []
    assert "look-alikes  " not in command("info", workspace.root)[1]


@pytest.mark.parametrize(("scene", "photos"), [("fountain-P11", 11), ("Herz-Jesus-P8", 8)])
def test_no_real_scene_is_suspected(scene, photos, real_photos, tmp_path):
    folder = real_photos / "eval" / "sfm" / scene / "images"
    workspace = tpsfm.reconstruct(folder, tmp_path / "map", max_size=768, **OPTIONS)
    assert len(read_model(workspace.sparse).images) == photos
    assert workspace.manifest["stages"]["lookalikes"]["counts"]["conflicts"] == []


def test_without_them_each_place_has_a_map_of_its_own(merged, tmp_path):
    out = tmp_path / "map"
    shutil.copytree(merged.root, out)
    workspace = tpsfm.reconstruct(merged.manifest["images"], out, drop_lookalikes=True, **OPTIONS)
    names = [{name[0] for name in read_model(workspace.of_model(number).sparse).images} for number in (0, 1)]
    assert sorted(names) in ([{"a"}, {"b"}], [{"b"}, {"a"}])
    assert "pairs of photos of places that look alike are left out" in command("info", out)[1]
    assert "0 conflicts are left of" in workspace.log.read_text()
    images = (workspace.sparse / "images.bin").stat().st_mtime_ns
    tpsfm.reconstruct(merged.manifest["images"], out, drop_lookalikes=True, **OPTIONS)  # nothing is done again
    assert (workspace.sparse / "images.bin").stat().st_mtime_ns == images
    workspace = tpsfm.reconstruct(merged.manifest["images"], out, **OPTIONS)
    assert len(read_model(workspace.sparse).images) == 10
    assert (workspace.sparse / "images.bin").read_bytes() == (merged.sparse / "images.bin").read_bytes()


def test_the_former_map_stays_where_no_fewer_conflicts_are_left(merged, tmp_path, monkeypatch):
    out = tmp_path / "map"
    shutil.copytree(merged.root, out)
    monkeypatch.setattr(Lookalikes, "_conflicts", lambda *_: [("a0.jpg", "b0.jpg", 40, 2)])
    workspace = tpsfm.reconstruct(merged.manifest["images"], out, drop_lookalikes=True, **OPTIONS)
    counts = workspace.manifest["stages"]["lookalikes"]["counts"]
    assert counts == {"conflicts": [("a0.jpg", "b0.jpg", 40, 2)], "before": 1, "dropped": 0}
    assert (workspace.sparse / "images.bin").read_bytes() == (merged.sparse / "images.bin").read_bytes()
    assert "the former map is kept" in workspace.log.read_text()


def test_pairs_between_places():
    inliers = {("a", "b"): 90, ("a", "c"): 50, ("b", "d"): 60, ("c", "d"): 80, ("b", "e"): 20, ("a", "f"): 0}
    assert between_places(inliers, [("a", "d")]) == [("a", "c"), ("b", "d")]
    assert between_places(inliers, []) == []


def test_both_photos_must_lack_what_the_other_shows():
    there, missing, half = Confirmation(40, 36), Confirmation(40, 4), Confirmation(20, 5)
    judged = {("a", "b"): (missing, half), ("a", "c"): (missing, there), ("b", "c"): (missing, missing)}
    assert conflicts(judged) == [("b", "c", 80, 8), ("a", "b", 60, 9)]
    assert conflicts({}) == []

"""A map made in parts: as good as one made at once, the same again, and a run that was killed goes on."""

import json
import logging
import shutil

import pytest

import tpsfm
from tpsfm import colmap
from tpsfm.colmap import read_model
from tpsfm.evaluation.poses import aligned_errors, load_poses
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction import partitioned
from tpsfm.reconstruction.partitioned import is_worthwhile, map_in_parts

OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1, "turned": False, "align": False}


@pytest.fixture(scope="module")
def whole(courtyard, tmp_path_factory):
    return tpsfm.reconstruct(courtyard / "images", tmp_path_factory.mktemp("whole") / "map", **OPTIONS).root


def in_parts(root, **options):
    workspace = Workspace.open(root)
    with workspace.locked():
        return map_in_parts(workspace, workspace.database, "key", largest=5, **options)


def test_it_is_as_good_and_the_same_again_and_goes_on_after_a_kill(whole, courtyard, tmp_path, monkeypatch):
    results = []
    for out, threads in (("once", 1), ("again", 2)):
        shutil.copytree(whole, tmp_path / out)
        assert in_parts(tmp_path / out, threads=threads) == [tmp_path / out / "mapped"]
        results.append([(tmp_path / out / "mapped" / f"{name}.bin").read_bytes() for name in ("images", "points3D")])
    assert results[0] == results[1]
    model = read_model(tmp_path / "once/mapped")
    metres, degrees = aligned_errors(load_poses(courtyard / "gt.json"), model.images)
    assert len(metres) == 10 and metres.max() < 0.05 and degrees.max() < 0.5
    assert len(model.cameras) == len(read_model(whole / "mapped").cameras)  # not one for each part

    shutil.copytree(whole, tmp_path / "killed")
    monkeypatch.setattr(partitioned, "place", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        in_parts(tmp_path / "killed")
    monkeypatch.undo()
    done = sorted((tmp_path / "killed/parts").iterdir())
    assert len(done) > 1
    shutil.rmtree(done[0])
    mapped = []
    monkeypatch.setattr(
        colmap, "reconstruct_part", lambda *a, part=colmap.reconstruct_part: mapped.append(a[1]) or part(*a)
    )
    in_parts(tmp_path / "killed")
    assert mapped == [done[0]]
    assert (tmp_path / "killed/mapped/images.bin").read_bytes() == results[0][0]


def test_a_part_goes_on_from_its_own_snapshot(whole, tmp_path, caplog):
    caplog.set_level(logging.INFO, "tpsfm")
    root = shutil.copytree(whole, tmp_path / "map")
    options = {"snapshots": root / "snapshots" / "key", "threads": 1}

    def killed(done):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parts(root, progress=killed, **options)
    assert len(list((root / "parts").glob("*/images.bin"))) == 1  # the other part, which was under way
    assert in_parts(root, **options)
    assert "going on with a map of 4 photos" in caplog.text
    assert len(read_model(root / "mapped").images) == 10


def test_auto_makes_a_large_connected_map_in_parts_and_says_so(whole, tmp_path, monkeypatch):
    inliers = colmap.verified_inliers(whole / "database.db")
    assert is_worthwhile(inliers, least=10) and not is_worthwhile(inliers)
    weak = {pair: 20 if "view_003.jpg" in pair or "view_004.jpg" in pair else n for pair, n in inliers.items()}
    assert not is_worthwhile(weak, least=5)  # two of ten are not surely connected

    shutil.copytree(whole, tmp_path / "map")
    monkeypatch.setattr(partitioned, "LARGEST", 5)
    monkeypatch.setattr(partitioned.is_worthwhile, "__defaults__", (10,))
    monkeypatch.setattr(partitioned.map_in_parts, "__defaults__", (*map_in_parts.__defaults__[:-1], 5))
    shutil.rmtree(tmp_path / "map/mapped")
    tpsfm.reconstruct(json.loads((whole / "run.json").read_text())["images"], tmp_path / "map", **OPTIONS)
    workspace = Workspace.open(tmp_path / "map")
    assert workspace.manifest["stages"]["map"]["counts"]["mapper"] == "parts"
    assert not (tmp_path / "map/parts").exists()
    assert "map: 10 photos in " in workspace.log.read_text()

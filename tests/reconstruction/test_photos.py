"""Photos are read once: what later stages ask of them is kept in the workspace."""

import builtins
import json
import shutil

import tpsfm
from tests.support.localizing import command
from tpsfm.colmap import read_model
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction import Stages


def test_a_photo_is_opened_for_its_record_and_for_its_pixels_alone(courtyard, tmp_path, monkeypatch):
    images = tmp_path / "images"
    shutil.copytree(courtyard / "images", images)
    stages = Stages.of(features="sift", max_keypoints=800, threads=1, camera_mode="single")
    workspace = Workspace.open(tmp_path / "map", create=True)
    stages.record(workspace, images)
    opened = []
    real = builtins.open

    def listening(file, *arguments, **given):
        opened.append(str(file))
        return real(file, *arguments, **given)

    monkeypatch.setattr(builtins, "open", listening)
    for times in (2, 0):  # again, nothing is opened
        del opened[:]
        stages.features.run(workspace)
        assert len([path for path in opened if path.startswith(str(images))]) == times * len(list(images.iterdir()))
    images.rename(tmp_path / "elsewhere")
    images.mkdir()  # COLMAP insists
    for stage in (stages.pairs, stages.matching, stages.verification, stages.mapping):
        stage.run(workspace)
    assert len(read_model(workspace.mapped).images) > 5


def test_a_list_of_photos_and_photos_that_moved(courtyard, tmp_path):
    images, out = tmp_path / "images", tmp_path / "map"
    shutil.copytree(courtyard / "images", images)
    listed = sorted(path.name for path in images.iterdir())[:4]
    (tmp_path / "list.txt").write_text("\n".join([*listed[:3], str(images / listed[3])]))
    options = {"features": "sift", "max_keypoints": 800, "threads": 1, "align": False}
    workspace = tpsfm.reconstruct(images, out, list=tmp_path / "list.txt", **options)
    assert sorted(tpsfm.read_model(workspace.sparse).images) == listed

    images.rename(tmp_path / "elsewhere")
    out.rename(tmp_path / "moved")
    status, said = command("map", tmp_path / "moved")
    assert status == 1 and "run 'tpsfm extract' on the new one" in said
    (tmp_path / "list.txt").write_text("\n".join(listed))
    status, said = command("extract", tmp_path / "elsewhere", tmp_path / "moved")
    assert status == 0, said
    assert "features: 0 new, 4 kept" in (tmp_path / "moved/log.txt").read_text()
    status, said = command("map", tmp_path / "moved", "--mapper", "incremental")
    assert status == 0 and "registered          4 of 4" in said, said
    assert json.loads((tmp_path / "moved/run.json").read_text())["images"] == str(tmp_path / "elsewhere")

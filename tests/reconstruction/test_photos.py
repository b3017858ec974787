"""Photos are read once: what later stages ask of them is kept in the workspace."""

import builtins
import shutil

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

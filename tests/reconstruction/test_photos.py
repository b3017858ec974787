"""Photos are read once: what later stages ask of them is kept in the workspace."""

import builtins
import shutil

from tpsfm.io.workspace import Workspace
from tpsfm.progress import Quiet
from tpsfm.reconstruction import Options, run_stage


def test_a_photo_is_opened_for_its_record_and_for_its_pixels_alone(courtyard, tmp_path, monkeypatch):
    images = tmp_path / "images"
    shutil.copytree(courtyard / "images", images)
    options = Options(features="sift", max_keypoints=800, threads=1, camera_mode="single")
    workspace = Workspace.open(tmp_path / "map", create=True)
    opened = []
    real = builtins.open

    def listening(file, *arguments, **given):
        opened.append(str(file))
        return real(file, *arguments, **given)

    monkeypatch.setattr(builtins, "open", listening)
    for times in (2, 0):  # again, nothing is opened
        del opened[:]
        run_stage("extract", workspace, options, images, Quiet())
        assert len([path for path in opened if path.startswith(str(images))]) == times * len(list(images.iterdir()))
    images.rename(tmp_path / "elsewhere")
    images.mkdir()  # COLMAP insists
    for stage in ("pairs", "match", "map"):
        run_stage(stage, workspace, options, images, Quiet())
    assert workspace.manifest["result"]["registered"] > 5

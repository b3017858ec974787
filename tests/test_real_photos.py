"""Real photos with known cameras, where TPSFM_DATA names their folder."""

import tpsfm
from tpsfm.evaluation.poses import load_poses, pose_auc, pose_errors


def test_fountain_is_mapped_whole_and_exactly(real_photos, tmp_path):
    scene = real_photos / "eval" / "sfm" / "fountain-P11"
    workspace = tpsfm.reconstruct(scene / "images", tmp_path / "map", max_keypoints=4096)
    model = tpsfm.read_model(workspace.sparse)
    assert len(model.images) == 11
    assert pose_auc(pose_errors(load_poses(scene / "gt.json"), model.images), [5])[0] > 0.92
    assert workspace.manifest["result"]["reprojection_error"] < 0.6

"""Recall of retrieval on a rendered set."""

import shutil

import pytest

from pipelines.chains import Limits
from pipelines.retrieval import recalls
from tpsfm import TpsfmError


def test_a_set_without_known_cameras_is_measured_by_covisibility(courtyard, tmp_path):
    images = tmp_path / "data" / "courtyard" / "images"
    images.mkdir(parents=True)
    for photo in sorted((courtyard / "images").iterdir())[:5]:
        shutil.copy(photo, images)
    row = recalls(tmp_path / "data", None, tmp_path / "maps", Limits(max_keypoints=1000))
    assert row["pool"] == 5
    assert sorted(row["lines"]) == ["day, by covisibility", "night, by covisibility"]
    assert row["lines"]["day, by covisibility"]["hit@1"] == 100


def test_a_folder_without_sets_is_named(tmp_path):
    with pytest.raises(TpsfmError, match=f"{tmp_path}: no set"):
        recalls(tmp_path, None, tmp_path / "maps", Limits())

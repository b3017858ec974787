"""Options are declared once, by the stages: the command line and the Python API are made from them."""

import inspect
from dataclasses import MISSING, fields

import click
import pytest

from tpsfm.cli import main
from tpsfm.errors import TpsfmError
from tpsfm.features.sift import SIFT
from tpsfm.features.tpr import TPR
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction import Stages
from tpsfm.reconstruction.features import Extraction
from tpsfm.reconstruction.matching import Matching
from tpsfm.reconstruction.stage import Stage


def test_the_command_line_has_the_options_of_the_stages():
    command = main.get_command(click.Context(main), "reconstruct")
    given = {option.name: option for option in command.params if isinstance(option, click.Option)}
    assert set(given) == set(Stages.of().options)
    for stage in Stages.types():
        for one in fields(stage):
            assert given[one.name].default == one.default and given[one.name].help == one.metadata["help"]


def test_no_option_is_declared_by_two_stages():
    common = {one.name for one in fields(Stage)}
    own = [one.name for stage in Stages.types() for one in fields(stage) if one.name not in common]
    assert len(own) == len(set(own))
    assert all(one.default is not MISSING for stage in Stages.types() for one in fields(stage))


@pytest.mark.parametrize("extractor", [TPR, SIFT])
def test_extractors_have_the_limits_of_the_stage(extractor):
    parameters = inspect.signature(extractor).parameters
    for name in ("max_keypoints", "max_size"):
        assert parameters[name].default == getattr(Extraction(), name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_keypoint": 3}, "no option 'max_keypoint'; there are: .*max_keypoints"),
        ({"max_keypoints": 0}, "max_keypoints must be at least 1, not 0"),
        ({"ratio": 0}, "ratio must be above 0.0, not 0"),
        ({"ratio": float("nan")}, "ratio must be"),
        ({"min_similarity": 2}, "min_similarity must be at most 1.0, not 2"),
        ({"max_keypoints": "many"}, "max_keypoints must be int, not 'many'"),
        ({"max_keypoints": None}, "max_keypoints must be int, not None"),
        ({"align": 2}, "align must be bool, not 2"),
        ({"masks": 3}, r"masks must be Path \| None, not 3"),
        ({"mapper": "magic"}, "mapper can't be 'magic'; there are: auto, incremental, global"),
    ],
)
def test_options_that_can_not_be_are_told(options, words):
    with pytest.raises(TpsfmError, match=words):
        Stages.of(**options)


def test_options_of_the_last_run_are_taken_but_for_those_given_now(tmp_path):
    workspace = Workspace.open(tmp_path / "map", create=True)
    Stages.of(features="sift", ratio=0.7, masks="masks").record(workspace, tmp_path)
    workspace.save()
    again = Stages.recorded(Workspace.open(tmp_path / "map"), ratio=0.9)
    assert (again.features.features, again.matching.ratio) == ("sift", 0.9)
    assert again.features.masks.is_absolute()
    assert Matching.recorded(workspace).ratio == 0.7

"""Pairs by GPS where some photos have no position, or all the same one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import exif
from tpsfm.errors import TpsfmError
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction import Stages

OPTIONS = {"features": "sift", "max_keypoints": 300, "threads": 1, "pairs": "gps", "turned": False}


def pairs_of(courtyard, root: Path, places: list[tuple[float, float] | None], neighbours: int, caplog) -> set:
    """The pairs of photos with these positions, seconds of arc, from the courtyard's walk."""
    (root / "photos").mkdir()
    for path, place in zip(sorted((courtyard / "images").iterdir()), places, strict=False):
        tags = place and {1: "N", 2: (55.0, 41.0, place[0]), 3: "E", 4: (13.0, 11.0, place[1])}
        Image.open(path).save(root / "photos" / path.name, quality=95, exif=exif(place=tags))
    workspace = Workspace.open(root / "map", create=True)
    stages = Stages.of(neighbours=neighbours, **OPTIONS)
    stages.record(workspace, root / "photos")
    stages.features.run(workspace)
    with caplog.at_level("WARNING", "tpsfm"):
        stages.pairs.run(workspace)
    rows = (line.split("\t") for line in workspace.pairs.read_text().splitlines())
    return {tuple(int(name[5:8]) for name in row) for row in rows}


def test_photos_without_a_position_get_pairs_by_their_looks(courtyard, tmp_path, caplog):
    places = [(10 + 0.05 * i, 20.0) for i in range(5)] + [None, None]
    pairs = pairs_of(courtyard, tmp_path, places, 2, caplog)
    assert {(0, 1), (1, 2), (2, 3), (3, 4)} <= pairs and (0, 4) not in pairs
    for lost in (5, 6):
        assert sum(lost in pair for pair in pairs) >= 2
    assert "2 of 7 photos have no GPS position of their own: pairs by their looks" in caplog.text


def test_one_position_for_all_tells_nothing(courtyard, tmp_path, caplog):
    pairs = pairs_of(courtyard, tmp_path, [(10.0, 20.0)] * 7, 2, caplog)
    counts = np.bincount(np.ravel(list(pairs)), minlength=7)
    assert counts.min() >= 2 and "7 of 7 photos" in caplog.text  # not all with the first two photos
    assert len(pairs) > 7


def test_photos_without_any_position_are_refused(courtyard, tmp_path, caplog):
    with pytest.raises(TpsfmError, match="0 of 4 photos have a GPS position"):
        pairs_of(courtyard, tmp_path, [None] * 4, 2, caplog)

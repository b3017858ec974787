"""The benchmark of the chain's growth: a row of a few photos, resumed."""

import json

import pytest
from click.testing import CliRunner

from pipelines import scale


def test_a_row_of_a_few_photos_and_once_more_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "SIZE", (320, 240))
    options = [
        "--photos",
        "10",
        "--features",
        "sift",
        "--max-keypoints",
        "800",
        "--threads",
        "1",
        "--colmap",
        "10",
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(scale.main, options)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    row, colmap = rows["10"], rows["colmap 10"]
    assert (row["registered"], row["pairs"], row["mapper"]) == (10, 45, "incremental")
    assert row["cm"] < 5 and row["degrees"] < 0.5 and row["peak MiB"] > 100
    assert row["all s"] == pytest.approx(sum(row[f"{stage} s"] for stage in scale.STAGES))
    assert row["s a photo"] == pytest.approx(row["all s"] / 10)
    assert 0 < row["map cpu"] < row["all cpu"] == pytest.approx(10 * row["cpu a photo"])
    assert colmap["registered"] == 10 and colmap["cm"] < 5
    assert 0 < colmap["extract s"] < colmap["all s"] and colmap["all cpu"] > 0
    for measure in ("measure", "measure_colmap"):
        monkeypatch.setattr(scale, measure, lambda *_: pytest.fail("it is made again"))
    again = CliRunner().invoke(scale.main, options)
    assert again.exit_code == 0 and "| 10 photos | 10 | 45 | incremental |" in again.output

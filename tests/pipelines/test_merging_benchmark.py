"""The benchmark of merged maps."""

import shutil

from click.testing import CliRunner

from pipelines.merging import main


def test_a_rendered_scene(courtyard, tmp_path):
    names = sorted(path.name for path in (courtyard / "images").iterdir())
    (tmp_path / "yard/images").mkdir(parents=True)
    for name in names[:3]:
        shutil.copy(courtyard / "images" / name, tmp_path / "yard/images")
    shutil.copy(courtyard / "gt.json", tmp_path / "yard")
    result = CliRunner().invoke(main, ["--data", tmp_path, "--scene", "yard", "--threads", "1"])
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("| yard")]
    assert "| yard, all at once | 3 |" in rows[0]
    assert all("a map needs at least two" in row for row in rows[1:])  # one of them has one photo

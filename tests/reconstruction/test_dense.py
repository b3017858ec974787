"""Dense maps by programs of others: stand-ins on the PATH that write what the real ones write."""

import shutil

import pytest

from tests.support.localizing import command

COLMAP = """#!/bin/sh
echo "$@" >> calls.txt
case $1 in
patch_match_stereo)
  test -s stereo/patch-match.cfg && test -s sparse/images.bin || exit 3
  for i in images/*; do
    n=stereo/depth_maps/$(basename $i)
    touch $n.photometric.bin $n.geometric.bin
  done;;
stereo_fusion)
  if [ -n "$BROKEN" ]; then echo "no depth maps here"; exit 7; fi
  echo ply > fused.ply;;
esac
"""
INTERFACE = "#!/bin/sh\ntest -s sparse/images.bin && echo x > scene.mvs\n"
DENSIFY = '#!/bin/sh\ntest -s scene.mvs && echo "$@" > arguments && echo ply > scene_dense.ply\n'


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder on the PATH, which holds nothing else but what a shell needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "basename", "touch", "test", "echo"):
        (folder / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(folder))

    def install(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    return install


def test_colmap_and_its_resume(held_out, tmp_path, programs, monkeypatch):
    out = tmp_path / "dense"
    arguments = ("dense", held_out / "map", "--to", out, "--threads", 1)
    code, said = command(*arguments)
    assert code == 1 and "need COLMAP with CUDA (colmap) or OpenMVS" in said and not out.exists()
    programs("colmap", COLMAP)
    monkeypatch.setenv("BROKEN", "1")
    code, said = command(*arguments)
    assert code == 1 and "colmap failed with exit status 7: no depth maps here" in said
    monkeypatch.delenv("BROKEN")
    code, said = command(*arguments)
    assert code == 0 and str(out / "fused.ply") in said
    calls = (out / "calls.txt").read_text().split("\n")
    assert [call.split()[0] for call in calls if call] == ["patch_match_stereo", "stereo_fusion", "stereo_fusion"]
    assert "--PatchMatchStereo.geom_consistency true" in calls[0] and "--input_type geometric" in calls[1]
    assert command(*arguments)[0] == 0 and (out / "calls.txt").read_text().split("\n") == calls


def test_openmvs(held_out, tmp_path, programs):
    programs("InterfaceCOLMAP", INTERFACE)
    code, said = command("dense", held_out / "map", "--to", tmp_path / "d", "--by", "openmvs")
    assert code == 1 and "need OpenMVS (InterfaceCOLMAP, DensifyPointCloud) on the PATH" in said
    programs("DensifyPointCloud", DENSIFY)
    code, said = command("dense", held_out / "map", "--to", tmp_path / "d", "--threads", 1)
    assert code == 0 and "scene_dense.ply" in said
    assert (tmp_path / "d/arguments").read_text().split()[:3] == ["-w", ".", "scene.mvs"]
    programs("colmap", COLMAP)
    said = command("dense", held_out / "map", "--to", tmp_path / "d", "--by", "colmap")[1]
    assert "is of another map or for another program" in said
    assert "there are: colmap, openmvs" in command("dense", held_out / "map", "--by", "mve")[1]

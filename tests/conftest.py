"""Fixtures of several folders: devices and types, rendered and synthesized scenes, real photos if there are any."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.localizing import HELD


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> str:
    """Each device that this machine has."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that PyTorch can use")
    return request.param


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request):
    """Each type that networks and matching compute in."""
    import torch

    return getattr(torch, request.param)


@pytest.fixture(scope="session")
def courtyard(tmp_path_factory) -> Path:
    """Ten rendered photos of 480 x 360 with known cameras: `images/` and `gt.json`."""
    from tpsfm.demo.dataset import render_scene

    out = tmp_path_factory.mktemp("courtyard")
    render_scene(out, views=10, size=(480, 360))
    return out


@pytest.fixture(scope="session")
def synthetic():
    """A synthesized scene of eight photos."""
    from tests.support.synthesized import Scene

    return Scene()


@pytest.fixture(scope="session")
def synthetic_map(synthetic, tmp_path_factory):
    """Its map: the folder, the verified inliers by pair, the steps of the progress, the models' folders."""
    from tpsfm import colmap

    root = tmp_path_factory.mktemp("synthetic")
    assert synthetic.database(root / "database.db") == len(synthetic.matches)
    _, inliers = colmap.verify_matches(root / "database.db", threads=2)
    steps = []
    folders, _ = colmap.reconstruct(
        root / "database.db", root / "sparse", "incremental", threads=2, progress=steps.append
    )
    return root, inliers, steps, folders


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The folder of real photos that TPSFM_DATA names."""
    folder = os.environ.get("TPSFM_DATA")
    if not folder:
        pytest.skip("TPSFM_DATA names no folder of real photos")
    return Path(folder)


@pytest.fixture(scope="session")
def held_out(courtyard, tmp_path_factory) -> Path:
    """A map of eight photos of the courtyard in `map`, the two others in `queries`, all poses in `gt.json`."""
    import tpsfm

    out = tmp_path_factory.mktemp("held_out")
    for folder in ("db", "queries"):
        (out / folder).mkdir()
    for photo in sorted((courtyard / "images").iterdir()):
        shutil.copy(photo, out / ("queries" if photo.name in HELD else "db"))
    shutil.copy(courtyard / "gt.json", out)
    tpsfm.reconstruct(out / "db", out / "map", features="sift", max_keypoints=1500, threads=1)
    return out


@pytest.fixture(scope="session")
def held_out_map(held_out):
    """The map of `held_out`, loaded."""
    import tpsfm

    return tpsfm.Map(held_out / "map")

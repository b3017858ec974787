"""What several tests need: a rendered scene, and the real photos where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def courtyard(tmp_path_factory) -> Path:
    """Ten rendered photos of 480 x 360 with known cameras: `images/` and `gt.json`."""
    from tpsfm.demo import render_scene

    out = tmp_path_factory.mktemp("courtyard")
    render_scene(out, views=10, size=(480, 360))
    return out


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The folder of real photos that TPSFM_DATA names."""
    folder = os.environ.get("TPSFM_DATA")
    if not folder:
        pytest.skip("TPSFM_DATA names no folder of real photos")
    return Path(folder)

"""tpsfm: photos in, a 3D map out.

import tpsfm

workspace = tpsfm.reconstruct("images/", "out/")
features = tpsfm.load_extractor("tpr").extract(image)
"""

import zlib  # noqa: F401  before pycolmap: its wheels abort where zlib is loaded later

from tpsfm.errors import TpsfmError

__version__ = "0.1.0"

_HOMES = {
    "Extractor": "tpsfm.features",
    "Features": "tpsfm.features",
    "Localization": "tpsfm.localization",
    "Map": "tpsfm.localization",
    "Model": "tpsfm.geometry.model",
    "Options": "tpsfm.reconstruction",
    "Workspace": "tpsfm.io.workspace",
    "load_extractor": "tpsfm.features",
    "localize": "tpsfm.localization",
    "read_model": "tpsfm.geometry.model",
    "reconstruct": "tpsfm.reconstruction",
}
__all__ = ["TpsfmError", *_HOMES]


def __getattr__(name: str):
    """Load what is asked for, when it is asked for."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tpsfm' has no attribute '{name}'")

"""tpsfm: photos in, a 3D map out.

import tpsfm

workspace = tpsfm.reconstruct("images/", "out/")
features = tpsfm.load_extractor("tpr").extract(image)
where = tpsfm.Map("out/").localize("new.jpg")
"""

import os
import zlib  # noqa: F401  before pycolmap: its wheels abort where zlib is loaded later
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tpsfm.errors import TpsfmError

if TYPE_CHECKING:
    from tpsfm.adaptation import adapt
    from tpsfm.alignment.matches import AlignedMatches, align_matches
    from tpsfm.colmap import read_model
    from tpsfm.features import Extractor, Features, load_extractor
    from tpsfm.geometry import Model
    from tpsfm.io.workspace import Workspace
    from tpsfm.localization import Localization, Map, localize
    from tpsfm.matching import Matcher
    from tpsfm.reconstruction import Stages, reconstruct
    from tpsfm.retrieval import GlobalDescriptor

# Threads that share an operation spin for a moment while they wait for each other, then sleep: as long as is OpenMP's
# default, two of PyTorch's took five times as long for a photo beside other busy processes; asleep at once, nearly
# twice as long where nothing else runs. It is read when PyTorch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__version__ = "0.1.0"

__all__ = [
    "AlignedMatches",
    "Extractor",
    "Features",
    "GlobalDescriptor",
    "Localization",
    "Map",
    "Matcher",
    "Model",
    "Stages",
    "TpsfmError",
    "Workspace",
    "adapt",
    "align_matches",
    "load_extractor",
    "localize",
    "read_model",
    "reconstruct",
]

_MODULES = {
    "tpsfm.adaptation": ("adapt",),
    "tpsfm.alignment.matches": ("AlignedMatches", "align_matches"),
    "tpsfm.features": ("Extractor", "Features", "load_extractor"),
    "tpsfm.colmap": ("read_model",),
    "tpsfm.geometry": ("Model",),
    "tpsfm.io.workspace": ("Workspace",),
    "tpsfm.localization": ("Localization", "Map", "localize"),
    "tpsfm.matching": ("Matcher",),
    "tpsfm.reconstruction": ("Stages", "reconstruct"),
    "tpsfm.retrieval": ("GlobalDescriptor",),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is first asked for, so that `import tpsfm` stays fast."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'tpsfm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

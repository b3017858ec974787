"""pycolmap, loaded safely and quietly: the rest of this package imports it from here."""

import zlib  # noqa: F401  pycolmap 4.1-4.2 brings its own zlib; loaded first it breaks Python's

import pycolmap

__all__ = ["pycolmap"]

pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)  # what went wrong shows in its results

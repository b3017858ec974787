"""Poses of new photos in a map: retrieve similar images, match, estimate, accept or reject."""

from tpsfm.localization.map import Map
from tpsfm.localization.result import Localization
from tpsfm.localization.session import localize

__all__ = ["Localization", "Map", "localize"]

"""Poses of new photos in a map that is there."""

from tpsfm.localization.map import Map
from tpsfm.localization.pose import Localization
from tpsfm.localization.session import localize

__all__ = ["Localization", "Map", "localize"]

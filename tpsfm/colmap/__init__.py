"""The adapter to COLMAP: the only place that imports pycolmap, which is loaded by the first call that needs it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tpsfm.colmap.cameras import CAMERA_MODES, group_cameras, possible_groups
from tpsfm.colmap.convention import camera_from_colmap, colmap_params
from tpsfm.colmap.given_cameras import (
    GivenCamera,
    GivenCameras,
    check_parameters,
    fit_camera,
    is_camera,
    parse_camera,
    read_cameras,
)
from tpsfm.colmap.reader import read_model, read_observations, read_point_ids

if TYPE_CHECKING:
    from tpsfm.colmap.colors import color_points
    from tpsfm.colmap.completion import complete_model
    from tpsfm.colmap.database import remove_database
    from tpsfm.colmap.extension import extend_model
    from tpsfm.colmap.formats import EXPORT_FORMATS, export
    from tpsfm.colmap.images import write_images
    from tpsfm.colmap.known_poses import write_placed
    from tpsfm.colmap.mapping import reconstruct, reconstruct_part
    from tpsfm.colmap.one_point import photos_from_one_point
    from tpsfm.colmap.pair_table import PairTable
    from tpsfm.colmap.pnp import AbsolutePose, absolute_pose
    from tpsfm.colmap.poses_file import poses_of, read_poses
    from tpsfm.colmap.projection import project, unproject
    from tpsfm.colmap.refinement import Moved, refine_model
    from tpsfm.colmap.rigs import apply_rigs, check_rigs, needs_calibration, read_rigs, rig_cameras
    from tpsfm.colmap.sharing import center_cameras, focal_of, share_cameras
    from tpsfm.colmap.thinning import thin_matches
    from tpsfm.colmap.triangulation import to_binary, triangulate
    from tpsfm.colmap.undistortion import UNDISTORT_TOOLS, undistort
    from tpsfm.colmap.verification import verified_inliers, verify_matches

__all__ = [
    "CAMERA_MODES",
    "EXPORT_FORMATS",
    "UNDISTORT_TOOLS",
    "AbsolutePose",
    "GivenCamera",
    "GivenCameras",
    "Moved",
    "PairTable",
    "absolute_pose",
    "apply_rigs",
    "camera_from_colmap",
    "center_cameras",
    "check_parameters",
    "check_rigs",
    "colmap_params",
    "color_points",
    "complete_model",
    "export",
    "extend_model",
    "fit_camera",
    "focal_of",
    "group_cameras",
    "is_camera",
    "needs_calibration",
    "parse_camera",
    "photos_from_one_point",
    "poses_of",
    "possible_groups",
    "project",
    "read_cameras",
    "read_model",
    "read_observations",
    "read_point_ids",
    "read_poses",
    "read_rigs",
    "reconstruct",
    "reconstruct_part",
    "refine_model",
    "remove_database",
    "rig_cameras",
    "share_cameras",
    "thin_matches",
    "to_binary",
    "triangulate",
    "undistort",
    "unproject",
    "verified_inliers",
    "verify_matches",
    "write_images",
    "write_placed",
]
_MODULES = {  # of what needs pycolmap
    "colors": ("color_points",),
    "completion": ("complete_model",),
    "database": ("remove_database",),
    "extension": ("extend_model",),
    "formats": ("EXPORT_FORMATS", "export"),
    "images": ("write_images",),
    "known_poses": ("write_placed",),
    "mapping": ("reconstruct", "reconstruct_part"),
    "one_point": ("photos_from_one_point",),
    "pair_table": ("PairTable",),
    "pnp": ("AbsolutePose", "absolute_pose"),
    "poses_file": ("poses_of", "read_poses"),
    "projection": ("project", "unproject"),
    "refinement": ("Moved", "refine_model"),
    "rigs": ("apply_rigs", "check_rigs", "needs_calibration", "read_rigs", "rig_cameras"),
    "sharing": ("center_cameras", "focal_of", "share_cameras"),
    "thinning": ("thin_matches",),
    "triangulation": ("to_binary", "triangulate"),
    "undistortion": ("UNDISTORT_TOOLS", "undistort"),
    "verification": ("verified_inliers", "verify_matches"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is first asked for."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""The adapter to COLMAP: the only place that imports pycolmap. Loading it costs a fraction of a second."""

from tpsfm.colmap.absolute_pose import AbsolutePose, absolute_pose
from tpsfm.colmap.cameras import CAMERA_MODELS, CAMERA_MODES, device, group_cameras
from tpsfm.colmap.export import EXPORT_FORMATS, export
from tpsfm.colmap.extension import extend_model
from tpsfm.colmap.images import write_images
from tpsfm.colmap.mapping import reconstruct_global, reconstruct_incremental
from tpsfm.colmap.pair_table import PairTable
from tpsfm.colmap.triangulation import to_binary, triangulate
from tpsfm.colmap.verification import verified_inliers, verify_matches

__all__ = [
    "CAMERA_MODELS",
    "CAMERA_MODES",
    "EXPORT_FORMATS",
    "AbsolutePose",
    "PairTable",
    "absolute_pose",
    "device",
    "export",
    "extend_model",
    "group_cameras",
    "reconstruct_global",
    "reconstruct_incremental",
    "to_binary",
    "triangulate",
    "verified_inliers",
    "verify_matches",
    "write_images",
]

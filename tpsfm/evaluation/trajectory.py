"""Trajectories against the truth: KITTI's pose files, alignment, absolute and relative pose errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tpsfm.errors import TpsfmError
from tpsfm.geometry import Sim3, rotation_angle

ALIGNMENTS = ("none", "se3", "sim3")


def read_trajectory(path: str | Path) -> np.ndarray:
    """Poses from a file in KITTI's format: a line of 12 numbers a frame, the upper 3x4 of camera to world.

    Returns:
        float64 [N, 4, 4], camera to world; the unit of length is the file's (metres in KITTI).

    Raises:
        TpsfmError: the file is missing or not of that form.
    """
    rows = np.zeros((0, 3, 4))
    try:
        lines = Path(path).read_text().splitlines()
        rows = np.array([line.split() for line in lines], float).reshape(len(lines), 3, 4)
    except OSError as error:
        raise TpsfmError(f"can't read the poses '{path}': {error.strerror}") from None
    except ValueError:
        pass
    if not rows.size or not np.isfinite(rows).all():
        raise TpsfmError(f"'{path}' doesn't hold poses in KITTI's format: 12 numbers a line are needed")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows
    return poses


def write_trajectory(path: str | Path, poses: np.ndarray) -> None:
    """Write poses [N, 4, 4], camera to world, in KITTI's format."""
    np.savetxt(path, poses[:, :3].reshape(-1, 12), fmt="%.9e")


def align_trajectory(truth: np.ndarray, estimated: np.ndarray, alignment: str) -> np.ndarray:
    """Align an estimated trajectory with the true one by least squares on the positions.

    Args:
        truth, estimated: [N, 4, 4], camera to world, frame by frame.
        alignment: "none", "se3" (rotation and translation) or "sim3" (also a scale, which one camera
            can't observe); Umeyama, PAMI 1991.

    Returns:
        float64 [N, 4, 4]: `estimated`, moved.

    Raises:
        TpsfmError: the paths differ in length or the alignment's name is unknown.
    """
    if len(truth) != len(estimated):
        raise TpsfmError(f"the paths have {len(truth)} and {len(estimated)} poses; they must go frame by frame")
    if alignment not in ALIGNMENTS:
        raise TpsfmError(f"no alignment named '{alignment}'; there are: {', '.join(ALIGNMENTS)}")
    if alignment == "none":
        return estimated.copy()
    source, target = estimated[:, :3, 3], truth[:, :3, 3]
    onto = Sim3.fit(source, target, scaled=alignment == "sim3")
    moved = estimated.copy()
    moved[:, :3, :3] = onto.rotation @ estimated[:, :3, :3]
    moved[:, :3, 3] = onto(source)
    return moved


def absolute_errors(truth: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """Absolute pose error (APE) of each frame: the distance of the positions.

    Args:
        truth, estimated: [N, 4, 4], camera to world, aligned before.

    Returns:
        float64 [N], in the unit of the paths. Source: Sturm et al., IROS 2012.
    """
    return np.linalg.norm(truth[:, :3, 3] - estimated[:, :3, 3], axis=1)


def relative_errors(truth: np.ndarray, estimated: np.ndarray, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Relative pose error (RPE): how the motion from frame i to i + `step` differs from the true one.

    Args:
        truth, estimated: [N, 4, 4], camera to world; rotation and translation between them don't matter, scale does.

    Returns:
        Distances [N - step] in the unit of the paths, and angles [N - step] in degrees.
        Source: Sturm et al., IROS 2012.
    """
    difference = np.linalg.inv(_motion(truth, step)) @ _motion(estimated, step)
    angles = [rotation_angle(motion[:3, :3]) for motion in difference]
    return np.linalg.norm(difference[:, :3, 3], axis=1), np.degrees(angles)


def rmse(errors: np.ndarray) -> float:
    """Root of the mean square; nan where there is none."""
    return float(np.sqrt(np.mean(np.square(errors)))) if len(errors) else float("nan")


def _motion(poses: np.ndarray, step: int) -> np.ndarray:
    """[N - step, 4, 4]: camera i + `step` in the frame of camera i."""
    return np.linalg.inv(poses[:-step]) @ poses[step:]

"""Errors of paths worked out by hand, and evo's figures where it is installed."""

import numpy as np
import pytest

from tpsfm.errors import TpsfmError
from tpsfm.evaluation.trajectory import (
    absolute_errors,
    align_trajectory,
    read_trajectory,
    relative_errors,
    rmse,
    write_trajectory,
)


def turn(degrees, axis):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    a, b = [i for i in range(3) if i != axis]
    rotation = np.eye(3)
    rotation[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
    return rotation


def path(positions, rotations=None):
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, 3] = positions
    if rotations is not None:
        poses[:, :3, :3] = rotations
    return poses


@pytest.fixture
def drive():
    """Forty frames of a drive round two bends."""
    heading = np.cumsum(np.r_[np.zeros(10), np.full(10, 5.0), np.zeros(10), np.full(10, -8.0)])
    rotations = np.stack([turn(h, 1) @ turn(0.2 * i, 0) for i, h in enumerate(heading)])
    return path(np.cumsum(rotations @ [0, 0, 1.2], axis=0), rotations)


@pytest.fixture
def noisy(drive):
    rng = np.random.default_rng(1)
    rotations = np.stack([pose[:3, :3] @ turn(rng.normal(), i % 3) for i, pose in enumerate(drive)])
    positions = 0.3 * (drive[:, :3, 3] + rng.normal(scale=0.1, size=(len(drive), 3))) @ turn(40, 1).T + [1, 2, 3]
    return path(positions, turn(40, 1) @ rotations)


def test_absolute_error_by_hand():
    truth = path([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3]])
    estimated = path([[0, 0, 0], [0, 0, 1], [3, 4, 2], [0, 0, 3]])
    errors = absolute_errors(truth, estimated)
    np.testing.assert_allclose(errors, [0, 0, 5, 0])
    assert rmse(errors) == 2.5
    assert np.isnan(rmse(np.zeros(0)))


def test_relative_error_by_hand():
    truth = path([[0, 0, 0], [0, 0, 1], [0, 0, 2]])
    # 10 % too far at first; then the right way in the camera's own frame, which has turned by 90 degrees.
    estimated = path([[0, 0, 0], [0, 0, 1.1], [1, 0, 1.1]], [np.eye(3), turn(-90, 1), turn(-90, 1)])
    np.testing.assert_allclose(turn(-90, 1) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    distances, degrees = relative_errors(truth, estimated)
    np.testing.assert_allclose(distances, [0.1, 0], atol=1e-12)
    np.testing.assert_allclose(degrees, [90, 0], atol=1e-6)
    distances, degrees = relative_errors(truth, estimated, step=2)
    np.testing.assert_allclose(distances, [np.sqrt(1 + 0.9**2)])
    np.testing.assert_allclose(degrees, [90])


def test_alignment_by_hand():
    truth = path([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]])
    estimated = path(0.5 * truth[:, :3, 3] @ turn(30, 2).T + [5, -1, 2], np.tile(turn(30, 2), (4, 1, 1)))
    np.testing.assert_allclose(align_trajectory(truth, estimated, "sim3"), truth, atol=1e-12)
    rigid = align_trajectory(truth, estimated, "se3")
    middle = np.full(3, 0.5)  # the mean of the true positions, which the shrunken path keeps
    np.testing.assert_allclose(rigid[:, :3, 3], middle + (truth[:, :3, 3] - middle) / 2, atol=1e-12)
    np.testing.assert_allclose(rigid[:, :3, :3], truth[:, :3, :3], atol=1e-12)
    np.testing.assert_array_equal(align_trajectory(truth, estimated, "none"), estimated)


def test_a_straight_drive_aligns():
    truth = path([[0, 0, z] for z in range(5)])
    estimated = path([[3 * z, 0, 0] for z in range(5)])
    np.testing.assert_allclose(absolute_errors(truth, align_trajectory(truth, estimated, "sim3")), 0, atol=1e-12)


def test_what_can_not_be_aligned(drive):
    with pytest.raises(TpsfmError, match="40 and 39"):
        align_trajectory(drive, drive[1:], "se3")
    with pytest.raises(TpsfmError, match="none, se3, sim3"):
        align_trajectory(drive, drive, "affine")


def test_files_in_kittis_format(tmp_path, drive):
    file = tmp_path / "00.txt"
    write_trajectory(file, drive)
    assert len(file.read_text().split("\n")[0].split()) == 12
    np.testing.assert_allclose(read_trajectory(file), drive, atol=1e-7)
    file.write_text("1 0 0 5 0 1 0 6 0 0 1 7")  # row by row, without a last line break
    np.testing.assert_array_equal(read_trajectory(file)[0], [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    for content in ("", "1 2 3", "one two", "nan 0 0 5 0 1 0 6 0 0 1 7"):
        file.write_text(content)
        with pytest.raises(TpsfmError, match=r"00\.txt"):
            read_trajectory(file)
    with pytest.raises(TpsfmError, match=r"nowhere\.txt"):
        read_trajectory(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("alignment", ["none", "se3", "sim3"])
def test_evo_agrees(drive, noisy, alignment):
    metrics = pytest.importorskip("evo.core.metrics")
    from evo.core.trajectory import PosePath3D

    def evo(kind, **options):
        reference, other = PosePath3D(poses_se3=list(drive)), PosePath3D(poses_se3=list(noisy))
        if alignment != "none":
            other.align(reference, correct_scale=alignment == "sim3")
        metric = kind(**options)
        metric.process_data((reference, other))
        return metric.error

    aligned = align_trajectory(drive, noisy, alignment)
    relation = metrics.PoseRelation
    errors = absolute_errors(drive, aligned)
    np.testing.assert_allclose(errors, evo(metrics.APE, pose_relation=relation.translation_part), atol=1e-9)
    for step in (1, 5):
        distances, degrees = relative_errors(drive, aligned, step)
        options = {"delta": step, "delta_unit": metrics.Unit.frames, "all_pairs": True}
        np.testing.assert_allclose(
            distances, evo(metrics.RPE, pose_relation=relation.translation_part, **options), atol=1e-9
        )
        np.testing.assert_allclose(
            degrees, evo(metrics.RPE, pose_relation=relation.rotation_angle_deg, **options), atol=1e-6
        )

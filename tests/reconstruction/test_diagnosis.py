"""Each reason for a missing photo, from inputs that have exactly that fault."""

from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction.description import describe
from tpsfm.reconstruction.diagnosis import why_left_out


def test_every_reason():
    names = ["a", "b", "broken", "blank", "few", "alone", "weak", "wild", "far1", "far2", "near"]
    reasons = why_left_out(
        names,
        registered=["a", "b"],
        unreadable={"broken": "truncated"},
        keypoints={name: 500 for name in names} | {"blank": 0, "few": 7},
        matches={
            ("a", "b"): 300,
            ("a", "few"): 3,
            ("a", "weak"): 9,
            ("b", "weak"): 12,
            ("a", "wild"): 40,
            ("far1", "far2"): 80,
            ("a", "far1"): 11,
            ("a", "near"): 30,
            ("b", "near"): 45,
        },
        inliers={("a", "b"): 250, ("a", "wild"): 0, ("far1", "far2"): 60, ("a", "near"): 20, ("b", "near"): 17},
    )
    assert reasons == {
        "alone": "no pair with enough matches (none with any)",
        "blank": "blank or blurred (no keypoints)",
        "broken": "unreadable: truncated",
        "far1": "verified pairs but not connected to the model (best: 60 with far2)",
        "far2": "verified pairs but not connected to the model (best: 60 with far1)",
        "few": "too few keypoints (7)",
        "near": "too few 2D-3D inliers (best pair: 20 verified matches with a, which is in the map)",
        "weak": "no pair with enough matches (best 12 with b)",
        "wild": "no pair with enough matches (best 40 with a, but they agree on no camera motion)",
    }
    assert list(reasons) == sorted(reasons)


def test_everything_registered():
    assert why_left_out(["a", "b"], ["a", "b"], {}, {"a": 500, "b": 500}, {("a", "b"): 90}, {}) == {}


def test_no_model_at_all():
    reasons = why_left_out(["a", "b"], [], {}, {"a": 500, "b": 500}, {("a", "b"): 90}, {("a", "b"): 40})
    assert reasons["a"].startswith("verified pairs but not connected to the model")


def test_photos_left_out_of_a_run_without_turns_hint_at_them(tmp_path):
    workspace = Workspace.open(tmp_path / "map", create=True)
    workspace.manifest |= {"options": {"turned": False}, "left_out": {"a.jpg": "no pair with enough matches"}}
    assert "photos may be turned against each other" in describe(workspace)[-1]
    workspace.manifest["options"] = {"turned": None}
    assert describe(workspace)[-1] == "  a.jpg: no pair with enough matches"


def test_only_the_worst_pairs_of_look_alikes_are_listed(tmp_path):
    workspace = Workspace.open(tmp_path / "map", create=True)
    rows = [[f"{i}.jpg", f"{i}b.jpg", 80, i] for i in range(30)]
    result = {"registered": 60, "photos": 60, "points": 9, "mean_track_length": 2.0, "reprojection_error": 0.1}
    workspace.manifest |= {"result": {**result, "other_models": {}}, "images": str(tmp_path)}
    workspace.manifest["stages"]["lookalikes"] = {"seconds": 1.0, "counts": {"conflicts": rows, "dropped": 4}}
    told = describe(workspace)
    assert "look-alikes         4 pairs of photos of places that look alike are left out" in told
    assert "  0.jpg and 0b.jpg: 0 of 80 points are there" in told
    assert "  and 10 more, in run.json" in told and not any("20b.jpg" in line for line in told)

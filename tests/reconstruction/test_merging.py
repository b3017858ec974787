"""Two maps made one."""

import json
import shutil

import numpy as np
import pytest

import tpsfm
from tests.support.localizing import command, noise
from tests.support.pictures import save
from tpsfm.colmap import PairTable, read_model
from tpsfm.colmap.geodesy import from_enu, to_enu
from tpsfm.errors import TpsfmError
from tpsfm.evaluation.poses import aligned_errors, load_poses
from tpsfm.geometry import Camera, Model, Pose, Sim3
from tpsfm.io.workspace import Workspace
from tpsfm.reconstruction.merging import merge
from tpsfm.reconstruction.parts import Part, by_gps, union
from tpsfm.reconstruction.world import world_content

OPTIONS = {"features": "sift", "max_keypoints": 1500, "threads": 1, "turned": False}


def mapped(courtyard, folder, numbers, rename=None, **options):
    """A map of some photos of the courtyard."""
    photos = sorted((courtyard / "images").iterdir())
    for number in numbers:
        name = photos[number].name if rename is None else f"{rename}{number}.jpg"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        shutil.copy(photos[number], folder / "images" / name)
    return tpsfm.reconstruct(folder / "images", folder / "map", **{**OPTIONS, **options}).root


@pytest.fixture(scope="module")
def halves(courtyard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves")
    return mapped(courtyard, folder / "even", range(0, 10, 2)), mapped(courtyard, folder / "odd", range(1, 10, 2))


def test_two_halves_without_a_common_photo(halves, courtyard, tmp_path):
    code, said = command("merge", *halves, tmp_path / "both")
    assert code == 0 and "registered          10 of 10 photos" in said
    workspace = Workspace.open(tmp_path / "both")
    metres, degrees = aligned_errors(load_poses(courtyard / "gt.json"), read_model(workspace.sparse).images)
    assert len(read_model(workspace.sparse).cameras) == 1  # the same device
    assert len(metres) == 10 and metres.max() < 0.05 and degrees.max() < 0.5
    assert workspace.manifest["stages"]["match"]["counts"]["pairs"] == 45
    with PairTable(halves[0] / "database.db") as one, PairTable(workspace.database) as all_:
        assert one.matched().items() <= all_.matched().items()  # matches that there are aren't made again
    counts = workspace.manifest["stages"]["map"]["counts"]
    assert counts["seam_points"] > 100 and counts["seam_error"] < 1 and counts["shared_photos"] == 0
    found = tpsfm.Map(tmp_path / "both").localize(courtyard / "images/view_004.jpg")
    assert found.pose is not None
    before = (workspace.mapped / "images.bin").read_bytes()
    assert command("map", tmp_path / "both", "--no-align", "--threads", 1)[0] == 0
    assert (workspace.mapped / "images.bin").read_bytes() == before
    again = tpsfm.reconstruct(tmp_path / "both/images", tmp_path / "both", **OPTIONS)
    assert again.manifest["stages"]["extract"]["counts"]["photos"] == 10


def test_photos_of_both_under_other_names(halves, courtyard, tmp_path):
    other = mapped(courtyard, tmp_path / "other", (1, 2, 3, 4, 7), rename="a")
    model = read_model(merge(halves[0], other, tmp_path / "both").sparse)
    truth = load_poses(courtyard / "gt.json")
    names = {f"a{number}.jpg": f"view_{number:03}.jpg" for number in (1, 3, 7)}
    assert sorted(model.images) == sorted([*(f"view_{n:03}.jpg" for n in range(0, 10, 2)), *names])
    images = {names.get(name, name): pose for name, pose in model.images.items()}
    assert aligned_errors(truth, images)[0].max() < 0.05


def test_what_cannot_be_merged(halves, courtyard, tmp_path):
    def refused(said, *arguments):
        with pytest.raises(TpsfmError, match=said):
            merge(*arguments)
        assert not (tmp_path / "out").exists()

    out = tmp_path / "out"
    refused("has one model only", halves[0], None, out)
    refused("is not a workspace", halves[0], tmp_path, out)
    few = mapped(courtyard, tmp_path / "few", (1, 3, 5), max_keypoints=900)
    refused("have other features, weights or limits", halves[0], few, out)
    rng = np.random.default_rng(0)
    strange = tmp_path / "strange"
    shutil.copytree(halves[1], strange)
    model = read_model(strange / "sparse")
    _shuffle(strange / "sparse", rng.permutation(len(model.points)))
    refused("don't fit each other: .* points that photos of both show agree", halves[0], strange, out)
    assert command("merge", halves[0], halves[1], halves[0])[1].startswith(f"Error: {halves[0]} holds files already")


def test_maps_of_two_places(halves, courtyard, tmp_path):
    picture = noise((900, 1200))
    for number in range(3):
        save(tmp_path / f"flat/images/{number}.png", picture[40 * number : 40 * number + 700, 90 * number :][:, :960])
    try:
        flat = tpsfm.reconstruct(tmp_path / "flat/images", tmp_path / "flat/map", **OPTIONS).root
    except TpsfmError:
        pytest.skip("no map of a flat picture")
    with pytest.raises(TpsfmError, match="points in common, too few to merge"):
        merge(halves[0], flat, tmp_path / "out")


def test_cameras_of_one_device_become_one():
    def part(*focals):
        cameras = {n: Camera("SIMPLE_RADIAL", 640, 480, [focal, 320, 240, 0]) for n, focal in enumerate(focals, 1)}
        images = {f"{focal}.jpg": Pose(n, np.eye(3), np.zeros(3)) for n, focal in enumerate(focals, 1)}
        return Part("", Model.of_cameras(cameras, images), {}, None)

    parts = [part(500, 503), part(501, 600)]
    camera_of = dict.fromkeys(("500.jpg", "503.jpg", "501.jpg", "600.jpg"), 7)
    known = union(parts, camera_of)
    assert {name: pose.camera_id for name, pose in known.images.items()} == {
        **{"500.jpg": 1, "503.jpg": 2},  # of one map, which has two
        **{"501.jpg": 2, "600.jpg": 3},
    }
    assert len(union(parts, {name: i for i, name in enumerate(camera_of)}).cameras) == 4


def test_by_gps(tmp_path):
    origins = np.array([[55.7, 13.19, 60.0], [55.701, 13.192, 75.0]])
    for name, origin in zip("ab", origins, strict=True):
        content = world_content(origin, Sim3(1.0, np.eye(3), np.zeros(3)), "gps") | {"rmse": {}, "residuals": []}
        (tmp_path / name).mkdir()
        (tmp_path / name / "georeference.json").write_text(json.dumps(content))
    moved = by_gps(tmp_path / "a", tmp_path / "b")
    points = np.random.default_rng(0).normal(0, 50, (9, 3))
    np.testing.assert_allclose(moved(points), to_enu(from_enu(points, origins[1]), origins[0]), atol=1e-6)
    assert by_gps(tmp_path, tmp_path / "b") is None


def _shuffle(folder, order):
    """Give the points of a model each other's places."""
    import zlib  # noqa: F401  before pycolmap

    import pycolmap

    model = pycolmap.Reconstruction(folder)
    ids = list(model.points3D)
    places = [model.point3D(i).xyz.copy() for i in ids]
    for i, j in zip(ids, order, strict=True):
        model.point3D(i).xyz = places[j]
    model.write_binary(folder)

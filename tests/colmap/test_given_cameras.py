"""Cameras that people give: scaled and turned to the photo, or refused."""

import numpy as np
import pytest

from tpsfm.colmap import fit_camera, parse_camera, project, read_cameras, read_model
from tpsfm.errors import TpsfmError
from tpsfm.geometry import Camera, Pose
from tpsfm.photos import Photo

CAMERA = Camera("PINHOLE", 640, 480, [500.0, 510.0, 321.5, 236.5])


def test_a_camera_is_written_with_or_without_its_size_and_in_any_case():
    without, given = parse_camera("PINHOLE, 5, 6, 1, 2"), parse_camera("pinhole,640,480,5,6,1,2")
    assert (without.model, without.size, without.params) == ("PINHOLE", None, [5, 6, 1, 2])
    assert (given.model, given.size, given.params) == ("PINHOLE", (640, 480), [5, 6, 1, 2])
    for text, problem in {
        "PINHOLE,5,6,1": "PINHOLE takes 4 numbers",
        "PINHOLE2,5,6,1,1": "no camera model 'PINHOLE2'",
        "PINHOLE,640,480,0,6,1,1": "the focal length first and above 0",
        "PINHOLE,640,x,5,6,1,1": "width and height are whole numbers",
    }.items():
        with pytest.raises(TpsfmError, match=problem):
            parse_camera(text)


def test_a_camera_is_scaled_to_photos_of_its_shape_alone():
    assert fit_camera(CAMERA, Photo(640, 480)) == CAMERA
    assert fit_camera(CAMERA, Photo(320, 240)) == Camera("PINHOLE", 320, 240, [250.0, 255.0, 160.5, 118.0])
    with pytest.raises(TpsfmError, match="for 640x480 pixels, but the photo has 640x640"):
        fit_camera(CAMERA, Photo(640, 640))
    with pytest.raises(TpsfmError, match="340,100 lies outside of 320x213"):
        fit_camera(Camera("SIMPLE_PINHOLE", 320, 213, [590.0, 340.0, 100.0]), Photo(320, 213))


@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize(("model", "lens"), [("PINHOLE", []), ("OPENCV", [0.1, -0.02, 0.01, 0.02])])
def test_the_camera_of_an_upright_photo_sees_the_same_in_the_photo_as_it_is_stored(orientation, model, lens):
    upright = Camera(model, 640, 480, [500.0, 510.0, 300.0, 250.0, *lens])
    stored = fit_camera(upright, Photo(480, 640, orientation=orientation))
    points = np.random.default_rng(0).uniform([-1, -0.7, 2], [1, 0.7, 3], (50, 3))
    x, y = project(upright, Pose(0, np.eye(3), np.zeros(3)), points).T
    expected = (y, 639 - x) if orientation == 6 else (479 - y, x)
    quarter = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], float)
    turn = Pose(0, quarter if orientation == 6 else quarter.T, np.zeros(3))
    np.testing.assert_allclose(project(stored, turn, points), np.stack(expected, axis=1), atol=1e-9)


def test_where_it_is_not_known_which_way_a_photo_is_turned_its_camera_must_not_matter():
    assert fit_camera(CAMERA, Photo(480, 640)) == Camera("PINHOLE", 480, 640, [510.0, 500.0, 239.5, 319.5])
    radial = Camera("OPENCV", 640, 480, [500.0, 510.0, 319.5, 239.5, 0.1, 0.0, 0.0, 0.0])
    assert fit_camera(radial, Photo(240, 320)).params == [255.0, 250.0, 119.5, 159.5, 0.1, 0.0, 0.0, 0.0]
    for params in ([500.0, 510.0, 319.5, 200.0, 0, 0, 0, 0], [500.0, 510.0, 319.5, 239.5, 0.1, 0, 0.01, 0]):
        with pytest.raises(TpsfmError, match="can't be turned to the photo's"):
            fit_camera(Camera("OPENCV", 640, 480, params), Photo(480, 640))


def test_a_camera_without_a_size_is_for_photos_that_its_principal_point_fits():
    given = parse_camera("SIMPLE_RADIAL,590,320,213.5,0")
    assert given.fit(Photo(640, 427)) == Camera("SIMPLE_RADIAL", 640, 427, [590.0, 319.5, 213.0, 0.0])
    for other in (Photo(320, 213), Photo(427, 640)):
        with pytest.raises(TpsfmError, match="write the size that it is for"):
            given.fit(other)


def cameras(tmp_path, text):
    file = tmp_path / "cameras.txt"
    file.write_text(text)
    return read_cameras(str(file))


def test_the_camera_of_a_photo_is_the_one_of_its_name_else_the_one_that_fits_best(tmp_path):
    photos = {
        "a.jpg": Photo(640, 480),
        "b.jpg": Photo(320, 240),
        "c/d e.jpg": Photo(480, 640),
        "x.jpg": Photo(500, 500),
    }
    text = "# COLMAP's\n1 SIMPLE_PINHOLE 640 480 500 320 240\n7 SIMPLE_PINHOLE 480 640 510 240 320\n"
    found = cameras(tmp_path, text).of(photos)
    assert {name: camera.params[0] for name, camera in found.items()} == {"a.jpg": 500, "b.jpg": 250, "c/d e.jpg": 510}
    assert found["b.jpg"].params == [250, 159.5, 119.5]
    rows = "simple_pinhole,640,480,500,320,240\nc/d e.jpg PINHOLE 480 640 520 521 240 320\n"
    found = cameras(tmp_path, rows).of(photos)
    assert found["c/d e.jpg"] == Camera("PINHOLE", 480, 640, [520, 521, 239.5, 319.5]) and "x.jpg" not in found
    assert read_cameras("SIMPLE_PINHOLE,320,240,250,160,120").of(photos)["a.jpg"].params[0] == 500


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# none\n", "holds no camera"),
        ("1 PINHOLE 640 480 500 500 320\n", "row 1 of .*PINHOLE takes 4 numbers"),
        ("# a\n\n1 FISH 640 480 500 500 320 240\n", "row 3 of .*no camera model 'FISH'"),
        ("PINHOLE,640,480,500,500,320\n", "row 1 of .*PINHOLE takes 4 numbers"),
        ("a few words\n", "row 1 of .*'MODEL width height params...'"),
        ("SIMPLE_PINHOLE,100,90,80,50,45\n", "no photo has one of its cameras; .* for 100x90 pixels, but the photo"),
        ("z.jpg SIMPLE_PINHOLE 640 480 500 320 240\n", "no photo has one of its cameras; it names z.jpg first"),
        ("a.jpg SIMPLE_PINHOLE 100 90 80 50 45\n", "a.jpg: its camera is given for 100x90"),
        ("1 SIMPLE_PINHOLE 640 480 500 320 240\n2 SIMPLE_PINHOLE 640 480 600 320 240\n", "a.jpg: 2 cameras fit"),
    ],
)
def test_what_is_wrong_with_known_cameras_is_told(tmp_path, text, problem):
    with pytest.raises(TpsfmError, match=problem):
        cameras(tmp_path, text).of({"a.jpg": Photo(640, 480)})


def test_a_models_images_tell_which_camera_is_whose(synthetic_map):
    model = read_model(synthetic_map[3][0])
    found = read_cameras(str(synthetic_map[3][0])).of({name: Photo(1024, 768) for name in model.images})
    for name, pose in model.images.items():
        assert found[name] == model.cameras[pose.camera_id]
    with pytest.raises(TpsfmError, match=r"can't read the cameras .*No such file"):
        read_cameras("nowhere/cameras.txt")

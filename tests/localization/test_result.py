"""What localization.json says of a query."""

import json

import numpy as np

from tpsfm.colmap import camera_from_colmap
from tpsfm.geometry import Pose
from tpsfm.localization.result import Localization, from_record, to_record


def test_cameras_are_written_in_pixels_of_colmap_and_read_again():
    camera = camera_from_colmap("SIMPLE_RADIAL", 640, 480, [500.0, 320.0, 240.0, 0.01])
    assert camera.params == [500.0, 319.5, 239.5, 0.01]
    pose = Pose(0, np.eye(3), np.arange(3.0))
    result = Localization("a.jpg", pose=pose, camera=camera, camera_source="exif", covariance=np.eye(6))
    record = json.loads(json.dumps(to_record(result)))
    assert record["camera"] == {"model": "SIMPLE_RADIAL", "width": 640, "height": 480, "params": [500, 320, 240, 0.01]}
    assert from_record(record).camera == camera

"""One pixel origin: the centre of the top-left pixel is (0, 0), and half pixels stay where they belong."""

import ast
from pathlib import Path

import cv2
import numpy as np

from tpsfm.geometry import Camera, rescale_matrix, rescale_points

ROOT = Path(__file__).parents[2]
# Sums with 0.5 that are no half pixel of COLMAP's: the edge of a picture, what is drawn, a level of a scale.
ALLOWED = {
    "tpsfm/geometry/camera.py": {"points + 0.5", "(points + 0.5) * scale - 0.5", "0.5 * scale - 0.5"},
    "tpsfm/view/report.py": {"left + i * step + 0.5"},  # bars of a chart
    "tpsfm/view/scene.py": {"width - 0.5", "height - 0.5"},
    "tpsfm/view/window.py": {"width / 2 - 0.5", "height / 2 - 0.5"},  # Open3D's centre of a window
}
TEXTURES = ("tpsfm/demo/rendering.py", "tpsfm/demo/materials.py")  # texels, and waves between 0 and 1


def is_half(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and len(node.args) == 1:  # np.float32(0.5)
        node = node.args[0]
    return isinstance(node, ast.Constant) and node.value == 0.5


def test_no_half_pixel_is_added_outside_of_colmap():
    found = set()
    for part in ("tpsfm", "pipelines"):
        for path in sorted((ROOT / part).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith("tpsfm/colmap/") or name in TEXTURES:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                sides = (node.left, node.right) if isinstance(node, ast.BinOp) else ()
                sides = (node.target, node.value) if isinstance(node, ast.AugAssign) else sides
                if sides and isinstance(node.op, ast.Add | ast.Sub) and any(map(is_half, sides)):
                    found.add((name, ast.unparse(node)))
    allowed = {(name, text) for name, texts in ALLOWED.items() for text in texts}
    assert found - allowed == set(), "COLMAP's half pixel belongs into tpsfm/colmap/convention.py"
    assert allowed - found == set(), "these are no longer there: take them out of the list"


def test_points_follow_an_image_that_is_resized():
    """The brightest spot of an image lies at the rescaled place."""
    y, x = np.mgrid[:60, :80]
    image = np.exp(-((x - 40.3) ** 2 + (y - 21.7) ** 2) / 200).astype(np.float32)
    for scale in (0.5, 2.0):
        small = cv2.resize(
            image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        row, column = np.mgrid[: len(small), : small.shape[1]]
        weights = small**4
        center = np.array([(weights * column).sum(), (weights * row).sum()]) / weights.sum()
        expected = rescale_points(np.array([[40.3, 21.7]]), scale)[0]
        np.testing.assert_allclose(center, expected, atol=0.05)
        np.testing.assert_allclose(rescale_matrix(scale) @ [40.3, 21.7, 1], [*expected, 1])


def test_matrix_of_a_camera_is_in_pixels_of_tpsfm():
    camera = Camera("OPENCV", 641, 481, [500.0, 510.0, 320.0, 240.0, 0.1, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(camera.matrix, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])

"""What the tests of localization share: the program, the names of the photos held out, and a foreign picture."""

import cv2
import numpy as np
from click.testing import CliRunner

from tpsfm.cli import main

HELD = ("view_002.jpg", "view_007.jpg")


def command(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def noise(shape=(360, 480)) -> np.ndarray:
    rng = np.random.default_rng(5)
    return cv2.resize(rng.integers(0, 255, (shape[0] // 5, shape[1] // 5), np.uint8), shape[::-1])

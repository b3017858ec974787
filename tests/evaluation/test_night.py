import numpy as np
import pytest

from tpsfm.evaluation.night import night


def grey(level, size=(240, 320), channels=()):
    return np.full((*size, *channels), level, np.uint8)


def linear(image):
    encoded = image / 255.0
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def test_the_same_seed_gives_the_same_night():
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    before = photo.copy()
    first = night(photo, 7)
    assert first.shape == photo.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, night(photo, 7))
    np.testing.assert_array_equal(photo, before)
    assert (first != night(photo, 8)).mean() > 0.3


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (1, 1, 3)])
def test_any_shape(shape):
    assert night(np.full(shape, 90, np.uint8), 0).shape == shape


def test_half_of_the_stops_come_back():
    """Light 2^-stops by the exposure, 2^(stops / 2) by the gain; the median is blind to noise and lamps."""
    for stops in (2, 4, 6):
        ratio = np.median(linear(night(grey(200), 1, stops))) / linear(np.array(200))
        assert ratio == pytest.approx(2 ** (-stops / 2), rel=0.1)


def test_noise_is_photon_noise_and_read_noise():
    """Away from the lamps the variance of linear light is a + b * light, a and b > 0, as counted electrons have it."""
    levels = np.array([90, 160, 230])
    variances = []
    for level in levels:
        image = night(grey(level), 3)
        image = image[:, image.max(0) < 200]  # columns without a lamp
        noise = linear(image)[:, 1:] - linear(image)[:, :-1]
        variances.append((1.4826 * np.median(np.abs(noise))) ** 2 / 2)
    slope, offset = np.polyfit(linear(levels) / 4, variances, 1)
    white, gain = 6000.0, 4.0  # electrons of white by day; two of four stops come back
    assert slope == pytest.approx(gain / white, rel=0.25)
    assert offset > 0


def test_darkness_itself_is_noisy():
    """Without any light the read noise lifts half of the pixels above black."""
    dark = night(grey(0, (600, 800)), 2, stops=16)
    assert np.mean(dark > 0) == pytest.approx(0.5, abs=0.05)


def test_the_light_is_warm():
    for seed in range(5):
        red, green, blue = np.median(night(grey(180, channels=(3,)), seed).reshape(-1, 3), 0)
        assert red > green > blue + 5


def test_lamps_saturate_and_have_a_halo():
    """In black surroundings: white discs, and around them light that falls with the distance."""
    import cv2

    for seed in range(5):
        dark = night(grey(0, (480, 640)), seed)
        lamp = dark == 255
        assert 20 < lamp.sum() < 0.02 * lamp.size
        distance = cv2.distanceTransform(1 - lamp.astype(np.uint8), cv2.DIST_L2, 5)
        rings = [np.median(dark[(distance > near) & (distance <= near + 3)]) for near in (2, 8, 20, 80)]
        assert rings[0] > rings[1] > rings[2] > rings[3]
        assert rings[1] > 40


def test_motion_blurs_along_one_direction():
    """Of fine texture, far less contrast is left along the motion than across it."""
    texture = np.random.default_rng(0).integers(0, 256, (400, 400)).astype(np.uint8)
    shares = []
    for seed in range(6):
        light = linear(night(texture, seed, stops=0))
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(light - light.mean()))) ** 2
        y, x = np.mgrid[-200:200, -200:200]
        ring = (np.hypot(x, y) > 120) & (np.hypot(x, y) < 190)
        angles = (np.arctan2(y, x)[ring] % np.pi) * 8 / np.pi
        power = [np.median(spectrum[ring][angles.astype(int) == i]) for i in range(8)]
        shares.append(min(power) / max(power))
    assert max(shares) < 0.6

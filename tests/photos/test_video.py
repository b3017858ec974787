"""Which frames of a video are taken."""

import cv2
import numpy as np
import pytest

from tests.support.pictures import colours, save
from tests.support.videos import SIZE, turn_by_metadata, write_video
from tpsfm.errors import TpsfmError
from tpsfm.photos.video import Frame, Video, by_motion, by_time


@pytest.fixture(scope="module")
def wall() -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (300, 1000)).astype(np.float32), (0, 0), 3)
    grey = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


def pan(wall, offsets) -> list[np.ndarray]:
    return [np.ascontiguousarray(wall[:240, x : x + 320]) for x in offsets]


def as_frames(pictures) -> list[Frame]:
    return [Frame(i, i / 15, picture) for i, picture in enumerate(pictures)]


def indices(chosen) -> list[int]:
    return [frame.index for frame, _ in chosen]


def test_frames_follow_the_motion(wall):
    still, fast, slow = [0] * 20, range(8, 88, 8), range(80, 120, 2)
    chosen = indices(by_motion(as_frames(pan(wall, [*still, *fast, *slow]))))
    assert chosen[0] == 0 and min(chosen[1:]) >= 20  # nothing while the camera stands
    assert sum(20 <= index < 30 for index in chosen) > sum(index >= 30 for index in chosen) > 0


def test_the_sharpest_about_a_step_is_taken(wall):
    pictures = pan(wall, range(120))
    blurred = [i for i in range(len(pictures)) if i % 3]
    for i in blurred:
        pictures[i] = cv2.blur(pictures[i], (7, 1))
    for choose in (lambda frames: by_motion(frames), lambda frames: by_time(frames, 5)):
        chosen = indices(choose(as_frames(pictures)))
        assert len(chosen) > 10 and not set(chosen) & set(blurred)


def test_by_time_takes_one_of_each_span(wall):
    chosen = indices(by_time(as_frames(pan(wall, range(0, 90))), 3))
    assert [index // 5 for index in chosen] == list(range(18))


def test_a_cut_gives_a_frame_and_blank_ones_are_left_out(wall):
    black = [np.zeros((240, 320, 3), np.uint8)] * 5
    other = wall[:, ::-1]
    chosen = indices(by_motion(as_frames([*black, *pan(wall, [0] * 5), *pan(other, [0] * 5), *black])))
    assert chosen == [5, 10]


@pytest.mark.parametrize("choose", [by_motion, lambda frames, _: by_time(frames, 5)])
def test_a_search_goes_on_from_where_it_was(wall, choose):
    rng = np.random.default_rng(1)
    frames = as_frames(pan(wall, np.cumsum(rng.integers(0, 9, 60)).tolist()))
    whole = list(choose(frames, True))
    assert len(whole) > 5
    for frame, following in whole[1::5]:
        rest = [frame.index for frame, _ in choose(frames[following:], False)]
        assert rest == [other.index for other, _ in whole if other.index > frame.index]


def test_the_rotation_in_the_metadata_is_applied(wall, tmp_path):
    path = write_video(tmp_path / "a.mp4", pan(wall, range(5)))
    turn_by_metadata(path)
    first = next(Video(path).frames()).pixels
    assert first.shape == (SIZE[0], SIZE[1], 3)
    turned = cv2.rotate(pan(wall, [0])[0], cv2.ROTATE_90_CLOCKWISE)
    assert np.abs(first.astype(int) - turned).mean() < 8


def test_what_is_no_video_is_told_in_a_line(wall, tmp_path, capfd):
    whole = write_video(tmp_path / "whole.mp4", pan(wall, range(30))).read_bytes()
    contents = {"empty.mp4": b"", "cut.mp4": whole[: len(whole) // 2], "text.mp4": b"no video " * 1000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TpsfmError, match=f"cannot read video .*{name}: it is "):
            list(Video(tmp_path / name).frames())
    with pytest.raises(TpsfmError, match=r"No such file"):
        Video(tmp_path / "none.mp4")
    with pytest.raises(TpsfmError, match="is one photo"):
        Video(save(tmp_path / "photo.jpg", colours()))
    assert capfd.readouterr().err == ""


def test_a_damaged_piece_is_passed_over(wall, tmp_path):
    path = write_video(tmp_path / "a.avi", pan(wall, range(60)))
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : third + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    assert 55 <= len(list(Video(path).frames())) <= 60
    path.write_bytes(content[: 2 * third])
    video = Video(path)
    assert 30 < len(list(video.frames())) < 45
    assert video.seen < video.length == 60

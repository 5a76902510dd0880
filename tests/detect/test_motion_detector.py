"""The detector without weights: what moves is found, what merely changes is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest

from streamlight.detect import Detection, MotionDetector, load_detector
from streamlight.errors import ConfigError
from streamlight.media.frame import ColorSpec, Frame

WIDTH, HEIGHT, RATE = 160, 96, 10
SIDE = 16
NOISE = np.random.default_rng(1).normal(0, 1.5, (7, HEIGHT, WIDTH))
Change = Callable[[np.ndarray, int], np.ndarray]


def room(index: int = 0, *, seed: int = 7) -> np.ndarray:
    """A textured, slightly noisy background, luma codes as float."""
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(60, 170, (HEIGHT // 16 + 2, WIDTH // 16 + 2))
    picture = np.kron(blocks, np.ones((16, 16)))[16 : 16 + HEIGHT, 16 : 16 + WIDTH]
    return picture + NOISE[index % 7]


def place(index: int) -> tuple[int, int]:
    """Left and top of the moving square: 4 pixels a frame, from the left edge back and forth."""
    span = WIDTH - SIDE
    at = (index * 4) % (2 * span)
    return (at if at <= span else 2 * span - at), HEIGHT // 2


def frame_of(picture: np.ndarray, index: int, *, color: ColorSpec | None = None) -> Frame:
    color = color or ColorSpec(chroma="400")
    codes = np.clip(picture, 16, 235) * (1 << (color.bit_depth - 8))
    return Frame((np.rint(codes).astype(color.dtype),), color, pts=index, time_base=Fraction(1, RATE), index=index)


def frames(count: int, *, mover: bool = True, change: Change | None = None, start: int = 0) -> Iterator[Frame]:
    for index in range(start, start + count):
        picture = room(index)
        if mover:
            x, y = place(index)
            picture[y : y + SIDE, x : x + SIDE] = 225
        yield frame_of(picture if change is None else change(picture, index), index)


def look(detector: MotionDetector, stream: Iterator[Frame]) -> dict[int, list[Detection]]:
    return {frame.index: detector(frame, camera="a") for frame in stream}


def hits(found: dict[int, list[Detection]], first: int) -> list[bool]:
    """Whether the square was found, from a frame on: the middle of a box within its size."""
    result = []
    for index in sorted(found):
        if index >= first:
            x, y = place(index)
            boxes = [one.box for one in found[index]]
            near = [abs((b[0] + b[2]) / 2 - x - SIDE / 2) < 8 and abs((b[1] + b[3]) / 2 - y - SIDE / 2) < 8
                    for b in boxes]  # fmt: skip
            result.append(any(near))
    return result


def test_what_moves_is_found_where_it_is():
    found = look(MotionDetector(), frames(40))
    assert sum(hits(found, 20)) >= 18
    assert all(len(found[index]) <= 1 for index in range(20, 40))
    (one,) = found[30]
    assert (one.label, one.label_id) == ("motion", 0)
    assert 0.5 <= one.score <= 1.0
    assert one.box[2] - one.box[0] < 2 * SIDE


def test_dark_things_are_no_shadows():
    def dark(picture: np.ndarray, index: int) -> np.ndarray:
        x, y = place(index)
        picture = 130 + (picture - 115) * 0.2
        picture[y : y + SIDE, x : x + SIDE] -= 25
        return picture

    assert sum(hits(look(MotionDetector(), frames(40, mover=False, change=dark)), 20)) >= 18


def test_nothing_moves_nothing_is_found():
    found = look(MotionDetector(), frames(40, mover=False))
    assert not any(found.values())


def test_nothing_is_told_while_the_background_is_learned():
    found = look(MotionDetector(), frames(12))
    assert not any(found[index] for index in range(RATE + 2))


def test_a_thing_must_be_there_for_some_frames():
    def flash(picture: np.ndarray, index: int) -> np.ndarray:
        if index % 10 in (5, 6):
            picture[30:50, 100:120] = 225
        return picture

    assert not any(look(MotionDetector(persistence=3), frames(50, mover=False, change=flash)).values())
    assert any(look(MotionDetector(persistence=1), frames(50, mover=False, change=flash)).values())


def test_small_things_are_left_out():
    small = look(MotionDetector(min_area=0.05), frames(40))
    assert not any(small.values())


@pytest.mark.parametrize(("gain", "offset"), [(1.3, 0.0), (0.6, 0.0), (1.0, 20.0)])
def test_a_step_of_the_light_is_no_motion_and_hides_none(gain, offset):
    def lit(picture: np.ndarray, index: int) -> np.ndarray:
        return picture if index < 25 else np.clip((picture - 16) * gain + 16 + offset, 16, 235)

    still = look(MotionDetector(), frames(45, mover=False, change=lit))
    assert not any(still.values())
    moving = look(MotionDetector(), frames(45, change=lit))
    assert sum(hits(moving, 28)) >= 14


@pytest.mark.parametrize("noise", [20.0, 50.0])
def test_a_noisy_picture_is_no_motion_and_hides_none(noise):
    rng = np.random.default_rng(5)

    def noisy(picture: np.ndarray, index: int) -> np.ndarray:
        return picture * 0.5 + 40 + rng.normal(0.0, noise, picture.shape) * (1.0 if index else 0.9)

    detector = MotionDetector()
    still = look(detector, frames(40, mover=False, change=noisy))
    assert sum(map(len, still.values())) <= 2
    assert detector.resets == 0
    if noise < 30.0:
        assert sum(hits(look(MotionDetector(), frames(45, change=noisy)), 25)) >= 15


def test_a_new_scene_is_learned_anew():
    def cut(picture: np.ndarray, index: int) -> np.ndarray:
        return picture if index < 25 else room(index, seed=8)[::-1]

    detector = MotionDetector()
    found = look(detector, frames(60, mover=False, change=cut))
    assert detector.resets == 1
    assert not any(found.values())


def test_the_background_does_not_drift():
    """A quarter of an hour at a frame a second, of a picture that is as much noise as it is scene."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0.0, 12.0, (50, HEIGHT, WIDTH))
    scene = 60 + (room() - 115) * 0.08
    detector, contrast = MotionDetector(), []
    for index in range(900):
        frame = frame_of(scene + noise[rng.integers(50)], index)
        frame.time_base = Fraction(1)
        detector(frame, camera="a")
        if index in (100, 899):
            reference = detector._scenes["a"].reference
            assert reference is not None
            contrast.append(float(reference.std()))
    assert detector.resets == 0
    assert abs(contrast[1] / contrast[0] - 1.0) < 0.1


def test_a_shaking_camera_is_no_motion_and_hides_none():
    def shaken(picture: np.ndarray, index: int) -> np.ndarray:
        return np.roll(picture, (index % 3 - 1, (index * 2) % 5 - 2), axis=(0, 1))

    still = look(MotionDetector(), frames(50, mover=False, change=shaken))
    assert sum(bool(found) for found in still.values()) <= 2
    moving = look(MotionDetector(), frames(50, change=shaken))
    assert sum(hits(moving, 25)) >= 20


def test_what_stops_becomes_background():
    def parked(picture: np.ndarray, index: int) -> np.ndarray:
        x = min(index * 4, 100)
        picture[30:50, x : x + 20] = 225
        return picture

    found = look(MotionDetector(), frames(260, mover=False, change=parked))
    assert any(found[index] for index in range(15, 30))
    assert not any(found[index] for index in range(240, 260))


def test_every_camera_has_a_background_of_its_own():
    detector = MotionDetector()
    mine = list(frames(30))
    for index, frame in enumerate(mine):
        detector(frame, camera="a")
        detector(frame_of(room(index, seed=9), index), camera="b")
    assert detector(next(frames(1, start=30)), camera="a")
    assert not detector(frame_of(room(30, seed=9), 30), camera="b")
    detector.forget("a")
    assert detector(next(frames(1, start=31)), camera="a") == []
    assert detector.resets == 0


def test_a_gap_or_another_size_begins_anew():
    detector = MotionDetector()
    look(detector, frames(30))
    assert detector(next(frames(1, start=30 + 6 * RATE)), camera="a") == [], "after a gap of six seconds"
    look(detector, frames(30))
    other = frame_of(room()[: HEIGHT // 2], 30)
    assert detector(other, camera="a") == []


def test_ten_bits_and_full_size_boxes():
    color = ColorSpec(chroma="400", bit_depth=10)
    detector, found = MotionDetector(), {}
    for frame in frames(40):
        big = np.kron(frame.planes[0], np.ones((4, 4)))
        found[frame.index] = detector(frame_of(big, frame.index, color=color), camera="a")
    x, y = place(35)
    (one,) = found[35]
    assert abs((one.box[0] + one.box[2]) / 2 - 4 * (x + SIDE / 2)) < 40
    assert abs((one.box[1] + one.box[3]) / 2 - 4 * (y + SIDE / 2)) < 40
    assert one.box[2] <= 4 * WIDTH


def test_tiny_pictures_do_no_harm():
    detector = MotionDetector()
    for index in range(15):
        picture = np.full((6, 8), 100.0)
        assert detector(frame_of(picture, index), camera="a") == []


@pytest.mark.parametrize("setting", [{"min_area": 0.0}, {"persistence": 0}, {"threshold": 2.0}])
def test_settings_out_of_range(setting):
    with pytest.raises(ConfigError):
        MotionDetector(**setting)


def test_loading():
    detector = load_detector("motion", threshold=0.7)
    assert detector.describe()["threshold"] == 0.7
    with pytest.raises(ConfigError, match="has no classes"):
        load_detector("motion", names=["a"])

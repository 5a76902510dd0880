"""A steady rate: what is filled in while the camera is away, at which times, and what it looks like."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from streamlight.errors import ConfigError
from streamlight.live import SteadyRate
from streamlight.live.steady import no_signal
from streamlight.media import ColorSpec, Frame
from tests.live.test_publish import BASE, picture


class Taker:
    """Keeps what it is offered."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int, float]] = []
        self.closed = False
        self._lock = threading.Lock()

    def offer(self, frame: Frame) -> bool:
        with self._lock:
            self.taken.append((frame.pts, int(np.median(frame.planes[0])), time.monotonic()))
        return True

    def close(self, timeout: float = 5.0) -> None:
        self.closed = True

    @property
    def times(self) -> list[int]:
        return [pts for pts, _, _ in self.taken]


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_last_picture_is_repeated_at_the_rate() -> None:
    taker = Taker()
    with SteadyRate(taker, rate=50, patience=0.1) as steady:
        frame = picture(5)
        steady.offer(frame)
        frame.planes[0][:] = 0  # whoever made the frame uses its memory again
        until(lambda: steady.stats.repeated >= 10)
    assert taker.closed
    assert {luma for _, luma, _ in taker.taken} == {45}
    steps = [after - before for before, after in pairwise(taker.times)]
    assert steps[0] >= 0.1 * 90_000
    assert min(steps[1:]) >= 0.02 * 90_000
    began = taker.taken[0][2]
    for pts, _, moment in taker.taken:  # times follow the clock
        assert abs((pts - taker.times[0]) / 90_000 - (moment - began)) < 0.5


def test_nothing_is_filled_in_while_the_camera_sends_or_before() -> None:
    taker = Taker()
    with SteadyRate(taker, rate=100, patience=5.0) as steady:
        time.sleep(0.05)
        assert taker.taken == []
        for index in range(10):
            assert steady.offer(picture(index))
    assert taker.times == [index * 3000 for index in range(10)]
    assert (steady.stats.passed, steady.stats.repeated) == (10, 0)


def test_frames_that_come_late_are_counted_and_time_goes_on() -> None:
    taker = Taker()
    with SteadyRate(taker, rate=50, patience=0.05) as steady:
        steady.offer(picture(0))
        until(lambda: steady.stats.repeated >= 5)
        assert not steady.offer(picture(1))
        steady.offer(picture(300))
    assert steady.stats.overtaken == 1
    assert steady.stats.passed == 2
    assert taker.times[-1] == 900_000
    assert taker.times == sorted(set(taker.times))


def test_a_camera_s_clock_that_starts_again_is_shifted() -> None:
    taker = Taker()
    with SteadyRate(taker, rate=30, patience=5.0) as steady:
        steady.offer(picture(900))
        for index in range(3):
            steady.offer(picture(index))
    assert taker.times == [900 * 3000 + step * 3000 for step in range(4)]


def test_after_a_while_a_notice_says_so() -> None:
    taker = Taker()
    with SteadyRate(taker, rate=50, patience=0.05, fill="notice", hold=0.2, name="yard") as steady:
        steady.offer(picture(60))
        until(lambda: steady.stats.notices >= 5)
        steady.offer(picture(3000))
    assert steady.stats.repeated >= 2
    lumas = [luma for _, luma, _ in taker.taken]
    assert lumas[:2] == [100, 100]
    assert lumas[-1] == 40
    assert min(lumas) == 37  # 100 made four times darker, above black
    assert taker.times == sorted(set(taker.times))


@pytest.mark.parametrize(("depth", "full"), [(8, False), (10, True)])
def test_the_notice_is_dark_and_colourless_with_text(depth: int, full: bool) -> None:
    color = ColorSpec(bit_depth=depth, range="full" if full else "limited")
    luma = np.full((180, 320), color.peak // 2, color.dtype)
    chroma = np.full((90, 160), 10, color.dtype)
    notice = no_signal(Frame((luma, chroma, chroma), color, 7, BASE), "yard: no signal since 03:12:45")
    black, span = color.luma_scale()
    light = (notice.planes[0].astype(float) - black) / span
    assert np.median(light) < 0.15
    assert 0.005 < (light > 0.7).mean() < 0.1
    rows = np.flatnonzero((light > 0.7).any(axis=1))
    assert rows.min() > 60
    assert rows.max() < 120
    assert (notice.planes[1] == 1 << depth - 1).all()
    assert luma.max() == color.peak // 2


def test_numbers_that_make_no_sense_are_refused() -> None:
    for wrong in ({"rate": 0}, {"rate": 25, "patience": 0}, {"rate": 25, "hold": -1}):
        with pytest.raises(ConfigError):
            SteadyRate(Taker(), **wrong)  # type: ignore[arg-type]

"""Timeline: strictly increasing integers with the true distances, whatever the camera's clock does."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import pytest

from streamlight.live.timeline import TICKS, TIME_BASE, Timeline

MILLI = Fraction(1, 1000)


def test_starts_at_zero_and_keeps_the_camera_s_distances() -> None:
    line = Timeline()
    times = [5000, 5033, 5067, 5200]
    out = [line.stamp(t, MILLI, 100 + t / 1000 + jitter) for t, jitter in zip(times, (0, 0.2, 0.01, 0.4), strict=True)]
    assert out == [0, 33 * 90, 67 * 90, 200 * 90]
    assert (line.jumps, line.repaired) == (0, 0)


def test_negative_first_times_are_fine() -> None:
    line = Timeline()
    assert [line.stamp(t, TIME_BASE, 7.0) for t in (-360, 2640)] == [0, 3000]


def test_first_picture_without_a_time_is_followed_by_one_step() -> None:
    line = Timeline()
    line.begin(Fraction(30))
    assert [line.stamp(t, TIME_BASE, 7.0) for t in (None, 3000, 6000)] == [0, 3000, 6000]
    assert line.repaired == 1


@pytest.mark.parametrize("first", [0, 10**9, -500])
def test_a_new_connection_goes_on_after_the_true_gap(first: int) -> None:
    line = Timeline()
    for i in range(10):
        line.stamp(i * 3000, TIME_BASE, 50 + i / 30)
    line.begin()
    # Away for 7 s; the camera's clock begins anywhere.
    out = [line.stamp(first + i * 3000, TIME_BASE, 57 + i / 30) for i in range(3)]
    assert out == [7 * TICKS, 7 * TICKS + 3000, 7 * TICKS + 6000]
    assert line.jumps == 0


def test_restart_from_zero_within_a_connection_is_a_jump() -> None:
    line = Timeline()
    for i in range(100):
        line.stamp(i * 3000, TIME_BASE, 50 + i / 30)
    out = line.stamp(0, TIME_BASE, 50 + 100 / 30)
    assert out == pytest.approx(100 * 3000, abs=2)
    assert line.stamp(3000, TIME_BASE, 50 + 101 / 30) == out + 3000
    assert line.jumps == 1


def test_jump_into_the_future_is_not_followed() -> None:
    line = Timeline()
    line.stamp(0, TIME_BASE, 10.0)
    out = line.stamp(3600 * TICKS, TIME_BASE, 10.04)
    assert out == pytest.approx(0.04 * TICKS, abs=2)
    assert line.jumps == 1


def test_a_pause_that_really_took_place_is_kept() -> None:
    line = Timeline()
    line.stamp(0, TIME_BASE, 10.0)
    assert line.stamp(60 * TICKS, TIME_BASE, 70.0) == 60 * TICKS
    assert line.jumps == 0


def test_burst_after_a_stall_keeps_the_camera_s_times() -> None:
    line = Timeline()
    line.stamp(0, TIME_BASE, 10.0)
    # Twelve seconds of silence, then two seconds of pictures that had been on the way, then a leap over what was lost.
    burst = [line.stamp(i * 3000, TIME_BASE, 22.0) for i in range(1, 61)]
    after = line.stamp(12 * TICKS, TIME_BASE, 22.0)
    assert burst == [i * 3000 for i in range(1, 61)]
    assert after == 12 * TICKS
    assert line.jumps == 0


def test_arrival_says_nothing_about_a_file() -> None:
    line = Timeline(judge_arrival=False)
    assert [line.stamp(t, MILLI, 1.0) for t in (0, 600_000)] == [0, 600 * TICKS]


def test_strictly_increasing_over_a_thousand_mishaps() -> None:
    rng = random.Random(3)
    line = Timeline()
    clock, camera, out = 1000.0, 0, []
    for _ in range(1000):
        clock += rng.choice([0.0, 0.03, 0.04, 3.0])
        camera = rng.choice([camera + 40, camera + 33, camera, camera - 20, 0, camera + 10**7, 5])
        if rng.random() < 0.05:
            line.begin(rng.choice([None, Fraction(25)]))
        out.append(line.stamp(rng.choice([camera, camera, camera, None]), MILLI, clock))
    assert all(isinstance(pts, int) for pts in out)
    assert all(after > before for before, after in pairwise(out))


def test_gaps_do_not_add_up_over_many_connections() -> None:
    line = Timeline()
    for connection in range(200):
        line.begin()
        start = 10.0 + connection * 5
        # Every connection hands out a second of stored pictures at once: each then runs a second ahead.
        last = [line.stamp(i * 3000, TIME_BASE, start + max(0, i - 30) / 30) for i in range(90)][-1]
    assert last / TICKS == pytest.approx(199 * 5 + 89 / 30, abs=0.1)

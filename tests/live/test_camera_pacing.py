"""Backlog and Backoff: when decoding is too slow, and when to try again."""

from __future__ import annotations

import random

import pytest

from streamlight.live.backoff import AUTH_DELAY, Backoff
from streamlight.live.pacing import Backlog


def run(backlog: Backlog, *, seconds: float, cost: float, lost: bool = True, drift: float = 1.0, pause: float = 0.0):
    """A camera of 30 pictures a second with a key frame every second, decoded at ``cost`` seconds each.

    Returns (pictures skipped, largest delay of a decoded one in the last half).
    """
    now, skipped, worst = 0.0, 0, 0.0
    for i in range(int(seconds * 30)):
        sent = i / 30 * drift + (pause if i % 30 == 0 else 0.0)
        waited = max(0.0, sent - now)
        now = max(now, sent)
        if backlog.skips(i / 30, key=i % 30 == 0, waited=waited, now=now):
            skipped += 1
            now += 0.0001
            continue
        worst = max(worst, now - sent) if i > seconds * 15 else worst
        now += cost
    return skipped, worst


def test_who_keeps_up_skips_nothing() -> None:
    assert run(Backlog(), seconds=60, cost=0.02)[0] == 0


def test_pauses_at_key_frames_are_no_delay() -> None:
    assert run(Backlog(), seconds=60, cost=0.01, pause=0.5)[0] == 0


@pytest.mark.parametrize("drift", [1.004, 0.99, 1.04])
def test_a_camera_whose_clock_is_wrong_is_no_delay(drift: float) -> None:
    assert run(Backlog(), seconds=120, cost=0.005, drift=drift)[0] == 0


@pytest.mark.parametrize("cost", [0.04, 0.1, 0.5])
def test_slow_decoding_stays_within_bounds(cost: float) -> None:
    skipped, worst = run(Backlog(), seconds=60, cost=cost)
    assert skipped
    assert worst < 2.6  # the limit of one second, the rest of a group of pictures, and what was in work


def test_without_times_nothing_is_judged() -> None:
    backlog = Backlog()
    assert not any(backlog.skips(None, key=False, waited=0.0, now=i * 1.0) for i in range(100))


def test_delays_double_up_to_the_cap_with_scatter() -> None:
    delays = [Backoff(1.0, generator=random.Random(seed)).delay("timeout") for seed in range(50)]
    assert len(set(delays)) > 40
    backoff = Backoff(4.0, generator=random.Random(0))
    found = [backoff.delay("refused") for _ in range(40)]
    for i, delay in enumerate(found):
        nominal = min(4.0, 0.2 * 2**i)
        assert nominal / 2 <= delay <= nominal
    backoff.succeeded()
    assert backoff.delay("refused") <= 0.2


def test_same_generator_same_delays() -> None:
    first, second = (Backoff(1.0, generator=random.Random(5)) for _ in range(2))
    assert [first.delay("ended") for _ in range(9)] == [second.delay("ended") for _ in range(9)]


def test_wrong_credentials_wait_long_at_once() -> None:
    assert Backoff(1.0).delay("auth") == AUTH_DELAY


def test_credentials_that_worked_are_tried_twice_more_soon() -> None:
    backoff = Backoff(1.0)
    backoff.succeeded()
    found = [backoff.delay("auth") for _ in range(3)]
    assert found[0] < 1
    assert found[1] < 1
    assert found[2] == AUTH_DELAY

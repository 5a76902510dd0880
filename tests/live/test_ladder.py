"""The ladder steps down when there is no time, and up again when there is; simulated, nothing sleeps."""

from __future__ import annotations

import itertools

import pytest

from streamlight.live.ladder import Ladder, LadderChange

NAMES = ("full", "small", "smaller", "plain")


class Camera:
    """One camera whose newest frame waits for an enhancer that takes ``cost[rung]`` seconds; time is made up."""

    def __init__(self, ladder: Ladder, cost: list[float], *, rate: float = 30.0, limit: float | None = 0.25) -> None:
        self.ladder, self.cost, self.rate, self.limit = ladder, list(cost), rate, limit
        self.now, self.next = 100.0, 100.0
        self.latencies: list[float] = []
        self.lost = 0
        self.done = 0

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.ladder.judge(self.now)
            if self.next > self.now:  # idle until the next frame comes
                self.now = self.next
            skipped = int((self.now - self.next) * self.rate)
            self.ladder.lost(skipped)
            self.lost += skipped
            arrival = self.next + skipped / self.rate
            self.next = arrival + 1.0 / self.rate
            work = self.cost[self.ladder.rung]
            self.now += work
            latency = self.now - arrival
            late = self.limit is not None and latency > self.limit
            self.ladder.worked(work, latency=None if late else latency)
            self.latencies.append(latency)
            self.done += 1


def test_nothing_happens_while_there_is_room() -> None:
    ladder = Ladder(NAMES, max_latency=0.25)
    camera = Camera(ladder, [0.02, 0.01, 0.005, 0.001])
    camera.run(60)
    assert ladder.rung == 0
    assert not ladder.changes
    assert camera.lost == 0
    assert ladder.expected_work == pytest.approx(0.02)


def test_overload_steps_down_until_it_keeps_up_and_no_further() -> None:
    seen: list[LadderChange] = []
    ladder = Ladder(NAMES, max_latency=0.25, on_change=seen.append)
    camera = Camera(ladder, [0.1, 0.06, 0.025, 0.001])  # 30 fps need less than 0.033
    camera.run(20)
    assert ladder.name == "smaller"
    assert [(c.before, c.after, c.down) for c in seen] == [("full", "small", True), ("small", "smaller", True)]
    assert "lost" in seen[0].reason
    camera.latencies.clear()
    camera.lost = 0
    camera.run(120)
    assert ladder.name == "smaller"
    assert camera.lost == 0
    assert ladder.steps_up == 0  # the dearer rung is known not to fit


def test_frames_that_take_longer_than_the_limit_step_down_by_being_late() -> None:
    ladder = Ladder(NAMES, max_latency=0.25)
    camera = Camera(ladder, [2.0, 1.0, 0.4, 0.001], rate=1.0)
    camera.run(30)
    assert ladder.name == "plain"
    assert all(change.down and "late" in change.reason for change in ladder.changes)


def test_a_frame_that_took_minutes_is_late_however_many_were_lost_meanwhile() -> None:
    ladder = Ladder(NAMES, max_latency=0.25)
    Camera(ladder, [20.0, 10.0, 0.6, 0.001], rate=30).run(25)
    assert ladder.name == "plain"
    assert all("late" in change.reason for change in ladder.changes)
    assert ladder.steps_down == 1  # eighty times the limit: one rung down cannot be enough


def test_room_steps_up_again_and_a_failed_try_waits_longer() -> None:
    ladder = Ladder(NAMES, max_latency=0.25)
    camera = Camera(ladder, [0.1, 0.06, 0.025, 0.001])
    camera.run(10)
    assert ladder.name == "smaller"
    camera.cost = [0.02, 0.01, 0.005, 0.001]  # the machine is free again
    camera.run(60)
    assert ladder.name == "full"
    assert ladder.steps_up == 2
    ups = [change for change in ladder.changes if not change.down]
    assert all("room" in change.reason for change in ups)


def test_a_rung_that_misleads_is_tried_less_and_less() -> None:
    ladder = Ladder(("full", "plain"), max_latency=None)
    camera = Camera(ladder, [0.05, 0.001], limit=None)
    camera.run(5)
    assert ladder.name == "plain"
    ladder._ratio[1] = 1.2  # as if it had been measured while the machine was free
    tries = []
    for _ in range(400):
        ladder._ratio[1] = 1.2
        before = ladder.steps_up
        camera.run(1)
        if ladder.steps_up > before:
            tries.append(camera.now)
    gaps = [b - a for a, b in itertools.pairwise(tries)]
    assert len(gaps) >= 3
    assert all(b > a - 1.0 for a, b in itertools.pairwise(gaps))  # up to the longest wait
    assert gaps[-1] > 3 * gaps[0]


def test_bursts_of_an_idle_enhancer_are_no_overload() -> None:
    ladder = Ladder(NAMES, max_latency=0.25)
    now = 0.0
    for _ in range(300):  # a camera that pauses at key frames and then sends six frames at once
        ladder.judge(now)
        ladder.lost(5)
        ladder.worked(0.01, latency=0.02)
        now += 0.2
    assert ladder.rung == 0


def test_one_hiccup_among_many_frames_is_forgiven_and_a_stream_of_them_is_not() -> None:
    ladder = Ladder(NAMES, max_latency=0.25)
    now = 0.0
    for i in range(200):
        ladder.judge(now)
        ladder.worked(0.01, latency=None if i % 40 == 0 else 0.02)
        now += 1 / 30
    assert ladder.rung == 0
    for i in range(40):
        ladder.judge(now)
        ladder.worked(0.01, latency=None if i % 3 == 0 else 0.02)
        now += 1 / 30
    assert ladder.rung >= 1


def test_a_rough_start_is_no_overload() -> None:
    ladder = Ladder(NAMES, max_latency=0.5)
    camera = Camera(ladder, [0.1, 0.06, 0.025, 0.001], limit=0.5)
    camera.run(2)
    camera.cost[0] = 0.02  # caches are warm, decoders have started
    camera.run(30)
    assert camera.lost > 20
    assert not ladder.changes


def test_spare_rungs_are_for_late_frames_only() -> None:
    ladder = Ladder(NAMES, max_latency=0.25, spare=1)
    camera = Camera(ladder, [0.2, 0.15, 0.1, 0.001])
    camera.run(30)
    assert ladder.name == "smaller"  # a third of the frames, in time
    camera.cost = [0.5, 0.4, 0.3, 0.001]
    camera.run(10)
    assert ladder.name == "plain"
    camera.cost = [0.2, 0.15, 0.1, 0.001]
    camera.run(60)
    assert ladder.name == "smaller"  # back as soon as it would be in time, although frames are lost there
    with pytest.raises(ValueError, match="not spare"):
        Ladder(("a",), spare=1)


def test_the_last_rung_is_the_end_and_the_history_is_bounded() -> None:
    ladder = Ladder(("only",), max_latency=0.1)
    Camera(ladder, [1.0], rate=5).run(60)
    assert ladder.rung == 0
    ladder = Ladder(("a", "b"), max_latency=0.1)
    for i in range(1000):
        ladder._move(float(i), 1 - ladder.rung, "to and fro")
    assert len(ladder.changes) == 200
    assert ladder.steps_down + ladder.steps_up == 1000
    with pytest.raises(ValueError, match="at least one"):
        Ladder(())

"""The enhancing thread: nobody waits for anybody, nothing is handed over late, and everything is counted."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import pytest
from live_fakes import FakeDelivery, FakeEnhancer, Rig, picture
from streamlight.pipelines.live_detect import BUSY, DetectWorker
from streamlight.pipelines.live_rungs import Rung

from streamlight.detect import Detection, Observer
from streamlight.errors import DeviceError


def rung(enhancer: FakeEnhancer | None, *, batches: bool = False, name: str = "full", family: str = "m") -> Rung:
    return Rung(name, enhancer, family, batches)  # type: ignore[arg-type]


def account(rig: Rig, number: int = 0) -> tuple[int, int, dict[str, int]]:
    """In, out, dropped; what is in is out, dropped or waiting, at any moment."""
    status = rig.lanes[number].status()
    assert status.frames_in == status.frames_out + sum(status.dropped.values()) + status.waiting
    return status.frames_in, status.frames_out, dict(status.dropped)


def test_frames_are_enhanced_and_handed_over_in_order() -> None:
    rig = Rig([rung(FakeEnhancer())], "a")
    rig.cameras[0].put(*(picture(i) for i in range(8)))
    rig.run()
    assert [frame.index for frame in rig.out[0].frames] == list(range(8))
    assert all(frame.planes[0][0, 0] == 130 for frame in rig.out[0].frames)
    assert account(rig) == (8, 8, {})
    status = rig.lanes[0].status()
    assert status.pictures == {"enhanced": 8}
    assert status.latency.count == 8
    assert status.size == (64, 48)
    assert "pw" not in status.url


def test_bright_pictures_are_not_touched_and_cost_nothing() -> None:
    enhancer = FakeEnhancer()
    rig = Rig([rung(enhancer)], "a")
    frames = [picture(i, code=150) for i in range(5)]
    planes = [frame.planes for frame in frames]
    rig.cameras[0].put(*frames)
    rig.run()
    assert enhancer.calls == []
    assert [frame.planes for frame in rig.out[0].frames] == planes
    assert rig.lanes[0].status().pictures == {"untouched": 5}


def test_a_model_that_batches_gets_equal_frames_of_several_cameras_in_one_call() -> None:
    enhancer = FakeEnhancer()
    rig = Rig([rung(enhancer, batches=True)], "a", "b", "c", wait=5.0)
    rig.cameras[2].state = "offline"  # nobody waits for who is away
    rig.start()
    rig.cameras[0].put(picture(0))
    time.sleep(0.05)
    assert enhancer.calls == []  # waiting for company
    rig.cameras[1].put(picture(0))
    rig.wait_for(lambda: enhancer.calls)
    assert enhancer.calls == [2]
    assert len({id(state) for state in enhancer.states}) == 2
    rig.finish()


def test_the_wait_for_company_is_bounded_and_sizes_do_not_mix() -> None:
    enhancer = FakeEnhancer()
    rig = Rig([rung(enhancer, batches=True)], "a", "b", wait=0.05)
    rig.cameras[0].put(picture(0))
    rig.start()
    rig.wait_for(lambda: rig.out[0].frames)
    rig.cameras[0].put(picture(1, size=(32, 16)))
    rig.cameras[1].put(picture(1))
    rig.finish()
    assert sum(enhancer.calls) == 3
    assert max(enhancer.calls) == 1


def test_a_model_that_does_not_batch_never_waits_for_company() -> None:
    rig = Rig([rung(FakeEnhancer())], "a", "b", wait=60.0)
    rig.cameras[0].put(picture(0))
    rig.run()  # would take a minute otherwise
    assert account(rig) == (1, 1, {})


def test_what_is_too_old_is_dropped_before_it_costs_work() -> None:
    enhancer = FakeEnhancer()
    rig = Rig([rung(enhancer)], "a", limit=30.0)
    rig.cameras[0].put(picture(0, age=31.0), picture(1))
    rig.run()
    assert sum(enhancer.calls) == 1
    assert account(rig) == (2, 1, {"late": 1})


def test_what_became_too_old_under_the_work_is_not_handed_over() -> None:
    rig = Rig([rung(FakeEnhancer(0.3))], "a", limit=0.2)
    rig.cameras[0].put(picture(0))
    rig.run()
    assert rig.out[0].frames == []
    assert account(rig) == (1, 0, {"late": 1})


def test_frames_that_would_surely_be_late_are_not_begun() -> None:
    enhancer = FakeEnhancer(1.0)
    rig = Rig([rung(enhancer)], "a", limit=20.0)
    rig.cameras[0].put(picture(0))
    rig.start()
    rig.wait_for(lambda: rig.out[0].frames)
    rig.cameras[0].put(picture(1, age=19.5))  # not yet too old, but it would be
    rig.wait_for(lambda: account(rig)[2])
    rig.finish()
    assert sum(enhancer.calls) == 1
    assert account(rig) == (2, 1, {"late": 1})


def test_overload_goes_down_to_pictures_as_they_came_and_latency_holds() -> None:
    rig = Rig([rung(FakeEnhancer(0.8)), rung(None, name="untouched")], "a", limit=0.5)
    rig.start()
    for i in range(3000):
        rig.cameras[0].put(picture(i))
        if rig.ladder.rung and len(rig.out[0].frames) > 5:
            break
        time.sleep(0.02)
        while len(rig.cameras[0].waiting) > 1:  # the mailbox keeps the newest
            rig.cameras[0].waiting.popleft()
            rig.cameras[0].came -= 1
            rig.cameras[0].dropped["superseded"] += 1
    rig.finish()
    assert rig.ladder.name == "untouched"
    came, out, dropped = account(rig)
    assert came == out + sum(dropped.values())
    status = rig.lanes[0].status()
    assert status.latency.maximum <= 0.6  # the hand-over itself comes after the last look at the clock
    assert status.pictures["bypassed"] == out
    assert all(frame.planes[0][0, 0] == 30 for frame in rig.out[0].frames)


def test_a_camera_whose_pictures_fail_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig([rung(FakeEnhancer(bad=32))], "good", "bad")
    rig.cameras[0].put(*(picture(i) for i in range(4)))
    rig.cameras[1].put(*(picture(i, size=(32, 16)) for i in range(4)))
    rig.run()
    assert account(rig, 0) == (4, 4, {})
    assert account(rig, 1) == (4, 0, {"failed": 4})


def test_a_device_without_memory_steps_down() -> None:
    class Full(FakeEnhancer):
        def __call__(self, frames, states):
            raise DeviceError("not enough memory")

    rig = Rig([rung(Full()), rung(FakeEnhancer(), name="small")], "a").start()
    for i in range(2000):
        rig.cameras[0].put(picture(i))
        if len(rig.out[0].frames) >= 3:
            break
        time.sleep(0.02)
    rig.finish()
    assert rig.ladder.name == "small"
    came, out, dropped = account(rig)
    assert came == out + dropped["failed"]


def test_a_delivery_that_fails_does_not_keep_the_others_from_theirs() -> None:
    class Broken(FakeDelivery):
        def offer(self, frame):
            raise OSError("no memory for frames")

        def status(self):
            return SimpleNamespace(target="rtsp://server/x")

    rig = Rig([rung(FakeEnhancer())], "a")
    rig.lanes[0].deliveries = (Broken(), rig.out[0])
    rig.cameras[0].put(picture(0), picture(1))
    rig.run()
    assert len(rig.out[0].frames) == 2
    assert rig.lanes[0]._out == 2


def test_another_model_begins_with_an_empty_memory() -> None:
    first, second = FakeEnhancer(), FakeEnhancer()
    rig = Rig([rung(first, family="a"), rung(second, family="b", name="other")], "a")
    rig.cameras[0].put(picture(0), picture(1))
    rig.start()
    rig.wait_for(lambda: len(rig.out[0].frames) == 2)
    assert rig.lanes[0].state.age == 2
    rig.ladder.rung = 1
    rig.cameras[0].put(picture(2))
    rig.finish()
    assert rig.lanes[0].state.age == 1
    assert sum(second.calls) == 1


def test_stopping_drops_what_is_not_begun_and_says_so() -> None:
    enhancer = FakeEnhancer(0.3)
    rig = Rig([rung(enhancer)], "a", "b")
    rig.cameras[0].put(picture(0))
    rig.cameras[1].put(picture(0))
    rig.start()
    rig.wait_for(lambda: enhancer.calls)
    rig.stop.set()
    rig.thread.join(20)
    totals = [account(rig, i) for i in (0, 1)]
    assert sum(out for _, out, _ in totals) == 1
    assert [dropped for _, _, dropped in totals if dropped] == [{"closing": 1}]


def test_a_frame_listener_that_fails_is_its_own_problem() -> None:
    seen = []

    def listen(name: str, frame: object) -> None:
        seen.append(name)
        raise RuntimeError("mine")

    rig = Rig([rung(FakeEnhancer())], "a", on_frame=listen)
    rig.cameras[0].put(picture(0), picture(1))
    rig.run()
    assert seen == ["a", "a"]
    assert account(rig) == (2, 2, {})


class SlowDetector:
    """Finds one thing in every picture, after a while; fails where told to."""

    names = ("thing",)

    def __init__(self, seconds: float = 0.0, *, fails: bool = False) -> None:
        self.seconds, self.fails = seconds, fails
        self.seen: list[tuple[str, int]] = []
        self.forgotten: list[str] = []

    def __call__(self, frame, *, camera: str = "") -> list[Detection]:
        time.sleep(self.seconds)
        if self.fails:
            raise ValueError("broken")
        self.seen.append((camera, int(frame.planes[0][0, 0])))
        return [Detection("thing", 0, 0.9, (1.0, 2.0, 30.0, 40.0))]

    def describe(self) -> dict:
        return {"kind": "slow"}

    def forget(self, camera: str) -> None:
        self.forgotten.append(camera)

    def close(self) -> None: ...


def test_a_slow_detector_holds_nothing_up_and_what_it_misses_is_counted() -> None:
    detector = SlowDetector(1.0)
    worker = DetectWorker(Observer(detector, on="both"), interval=0.0)
    rig = Rig([rung(FakeEnhancer())], "a", detect=worker)
    rig.cameras[0].put(*(picture(i) for i in range(10)))
    rig.run()
    assert account(rig) == (10, 10, {})
    rig.wait_for(lambda: len(detector.seen) >= 2)
    worker.close(5.0)
    assert {camera for camera, _ in detector.seen} == {"a/raw", "a/enhanced"}
    assert {level for _, level in detector.seen} == {30, 130}
    assert worker.skipped[BUSY] >= 4
    assert rig.lanes[0].detections >= 2


def test_the_detector_sees_no_more_than_its_rate_and_its_failures_are_counted() -> None:
    detector = SlowDetector(fails=True)
    worker = DetectWorker(Observer(detector), interval=0.1)  # frames are 1/30 s apart
    rig = Rig([rung(FakeEnhancer())], "a", detect=worker)
    rig.start()
    for i in range(9):
        rig.cameras[0].put(picture(i))
        rig.wait_for(lambda i=i: len(rig.out[0].frames) > i)
        time.sleep(0.01)
    rig.finish()
    worker.close(5.0)
    assert account(rig) == (9, 9, {})
    assert worker.skipped["failed (ValueError)"] + worker.skipped[BUSY] == 3


def test_a_camera_that_was_away_begins_anew_for_the_detector() -> None:
    detector = SlowDetector()
    worker = DetectWorker(Observer(detector), interval=0.0)
    rig = Rig([rung(FakeEnhancer())], "a", detect=worker)
    rig.start()
    for count, number in enumerate((0, 1, 500), start=1):
        rig.cameras[0].put(picture(number))
        rig.wait_for(lambda count=count: len(detector.seen) == count)
    rig.finish()
    worker.close(5.0)
    assert detector.forgotten == ["a/raw", "a/enhanced"]


def test_boxes_are_drawn_on_what_is_handed_over_and_not_on_what_the_detector_sees() -> None:
    detector = SlowDetector()
    worker = DetectWorker(Observer(detector), interval=0.0)
    rig = Rig([rung(FakeEnhancer())], "a", detect=worker, draw=True)
    rig.start()
    rig.cameras[0].put(picture(0))
    rig.wait_for(lambda: rig.lanes[0].boxes())
    rig.cameras[0].put(picture(1))
    rig.wait_for(lambda: len(detector.seen) == 2)
    rig.finish()
    worker.close(5.0)
    plain, drawn = (frame.planes[0] for frame in rig.out[0].frames)
    assert (plain == 130).all()
    assert (drawn != 130).any()
    assert {level for _, level in detector.seen} == {130}


def test_the_loop_sleeps_when_nothing_comes_and_its_heart_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig([rung(FakeEnhancer())], "a")
    beats = []
    judge = rig.ladder.judge
    monkeypatch.setattr(rig.ladder, "judge", lambda now: (beats.append(now), judge(now))[1])
    rig.start()
    rig.wait_for(lambda: len(beats) >= 3)
    rig.finish()
    assert min(later - before for before, later in itertools.pairwise(beats[:3])) > 0.1

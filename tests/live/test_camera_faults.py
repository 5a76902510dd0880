"""Camera against the rig: killed, frozen, restarted, resized, its clock set back, its line cut. It must come back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from streamlight.live import Camera, CameraEvent, CameraOptions
from streamlight.media import Frame
from streamlight.media.live import LiveStream
from tests.faults import FaultProxy, RtspServer, proxied

Servers = Callable[..., RtspServer]
Proxies = Callable[[int], FaultProxy]
LONG = 20.0


class Watch:
    """A camera and all that came of it. Checks at the end what must hold after every fault."""

    def __init__(self, url: str, **options: Any) -> None:
        self.events: list[CameraEvent] = []
        self.frames: list[Frame] = []
        self.camera = Camera(CameraOptions(url=url, **({"read_timeout": 1.0} | options)), on_change=self.events.append)

    def until(self, condition: Callable[[], bool]) -> None:
        """Take frames until the condition holds."""
        deadline = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < deadline, f"state {self.camera.state}, {self.camera.stats}"
            frame = self.camera.take(0.05)
            if frame is not None:
                self.frames.append(frame)

    def more(self, count: int = 5) -> list[Frame]:
        """Take so many more frames."""
        before = len(self.frames)
        self.until(lambda: len(self.frames) >= before + count)
        return self.frames[before:]

    def until_state(self, state: str) -> None:
        self.until(lambda: self.camera.state == state)

    def check(self) -> None:
        times = [frame.pts for frame in self.frames]
        assert all(after > before for before, after in pairwise(times)), "pts must strictly increase"
        assert {frame.time_base.denominator for frame in self.frames} == {90000}
        stats = self.camera.stats
        assert stats.frames_in == stats.frames_out + sum(stats.dropped.values()) + stats.waiting
        assert stats.frames_out == len(self.frames)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watch]]:
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> Watch:
            watching = Watch(url, **options)
            stack.callback(watching.check)
            stack.enter_context(watching.camera)
            return watching

        yield make


def reason(watching: Watch) -> str | None:
    """Why the camera was away last."""
    fault = watching.camera.stats.fault
    return fault.reason if fault is not None else None


def small(rtsp_server: Servers, **options: Any) -> RtspServer:
    return rtsp_server(**({"size": (96, 64), "rate": 25} | options))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_and_started_again(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url())
    watching.more()
    server.kill()
    watching.until_state("offline")
    before = watching.frames[-1]
    # A port that is closed is found out at once, and tried again and again.
    watching.until(lambda: reason(watching) == "refused")
    server.start()
    after = watching.more()[0]
    gap = float(after.seconds - before.seconds)
    assert gap == pytest.approx(after.arrival - before.arrival, abs=0.5), "the gap is as long as it really was"
    stats = watching.camera.stats
    assert (stats.state, stats.reconnects) == ("live", 1)
    assert [event.state for event in watching.events] == ["live", "offline", "live"]
    first = watching.events[1].fault
    assert first is not None
    assert first.reason == "ended"
    assert watching.events[2].away is not None


def test_what_needs_a_person_is_said_while_offline(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    first = small(rtsp_server)
    watching = watch(first.url())
    watching.more()
    first.kill()
    watching.until(lambda: reason(watching) == "refused")
    small(rtsp_server, port=first.port, mounts=("other",))
    watching.until(lambda: reason(watching) == "not_found")
    watching.until(lambda: len(watching.events) == 3)
    assert [(event.state, event.fault and event.fault.reason) for event in watching.events[1:]] == [
        ("offline", "ended"),
        ("offline", "not_found"),
    ]


def test_attempts_are_counted_from_the_last_frame(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url(), max_attempts=3, backoff_cap=0.1)
    watching.more()
    server.kill()
    watching.until(lambda: watching.camera.ended)
    stats = watching.camera.stats
    assert stats.state == "offline"
    assert stats.attempts == 1 + 3


def test_frozen_and_thawed(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url(), read_timeout=2.0)
    watching.more()
    server.freeze()
    watching.until_state("stalled")
    watching.until_state("offline")
    assert reason(watching) == "timeout"
    server.thaw()
    watching.until_state("live")
    watching.more()
    assert "stalled" in [event.state for event in watching.events]


def test_restarted_with_another_size_and_time_from_zero(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url())
    watching.more(30)
    server.restart(size=(160, 120), timestamps_from_zero=True)
    watching.until(lambda: watching.frames[-1].width == 160)
    assert watching.more()[-1].height == 120
    assert watching.camera.stats.format_changes == 1
    info = watching.camera.info
    assert info is not None
    assert (info.width, info.height) == (160, 120)


def test_restarted_with_another_size_which_is_kept(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url(), keep_size=True)
    watching.more()
    server.restart(size=(160, 120))
    watching.until(lambda: watching.camera.stats.reconnects == 1)
    watching.more()
    assert {(frame.width, frame.height) for frame in watching.frames} == {(96, 64)}


def test_another_size_within_the_session(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url())
    watching.more()
    server.change_size((128, 96))
    watching.until(lambda: watching.frames[-1].width == 128)
    assert watching.camera.stats.format_changes == 1


def test_clock_set_back_within_the_session(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url())
    watching.more(20)
    before = watching.frames[-1]
    server.jump(0.0)
    after = watching.more(20)[-1]
    assert float(after.seconds - before.seconds) == pytest.approx(after.arrival - before.arrival, abs=0.5)


def test_clock_set_forward_within_the_session(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url())
    watching.more(20)
    before = watching.frames[-1]
    server.jump(5000.0)
    after = watching.more(20)[-1]
    assert float(after.seconds - before.seconds) == pytest.approx(after.arrival - before.arrival, abs=0.5)


def test_pause_at_a_key_frame_is_no_fault(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url(), queue=50)
    watching.more()
    server.pause(0.5)
    watching.more(30)
    assert [event.state for event in watching.events] == ["live"]
    assert watching.camera.stats.clock_jumps == 0


@pytest.mark.parametrize("fault", ["cut", "reset", "down"])
def test_line_is_lost(rtsp_server: Servers, fault_proxy: Proxies, watch: Callable[..., Watch], fault: str) -> None:
    server = small(rtsp_server)
    proxy = fault_proxy(server.port)
    watching = watch(proxied(server.url(), proxy))
    watching.more()
    getattr(proxy, fault)()
    watching.until(lambda: len(watching.events) >= 2)
    assert watching.events[1].state == "offline"
    if fault == "down":
        watching.until(lambda: watching.camera.stats.attempts >= 2)
        proxy.up()
    watching.until_state("live")
    watching.more()
    assert watching.camera.stats.reconnects == 1


def test_line_is_silent(rtsp_server: Servers, fault_proxy: Proxies, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    proxy = fault_proxy(server.port)
    watching = watch(proxied(server.url(), proxy), open_timeout=1.0)
    watching.more()
    proxy.freeze()
    watching.until_state("offline")
    attempts = watching.camera.stats.attempts
    watching.until(lambda: watching.camera.stats.attempts > attempts)
    proxy.thaw()
    watching.until_state("live")
    watching.more()


def test_over_udp(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    server = small(rtsp_server)
    watching = watch(server.url(), transport="udp")
    watching.more(20)
    server.restart()
    watching.until(lambda: watching.camera.stats.reconnects == 1)
    watching.more()


def test_sound_is_left_with_the_camera(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    watching = watch(small(rtsp_server, audio=True).url())
    watching.more()
    info = watching.camera.info
    assert info is not None
    assert [stream.kind for stream in info.streams] == ["video"]


def test_time_of_day_comes_from_the_camera(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    watching = watch(small(rtsp_server).url())
    watching.until(lambda: bool(watching.frames) and "wall_clock" in watching.frames[-1].notes)
    found = [frame for frame in watching.more(10) if "wall_clock" in frame.notes]
    # Server and reader share a clock here; a frame was taken a moment before it arrived.
    for frame in found:
        arrival = time.time() - (time.monotonic() - frame.arrival)
        assert arrival - frame.notes["wall_clock"] == pytest.approx(0.0, abs=1.0)


def test_slow_decoding_skips_instead_of_falling_behind(
    rtsp_server: Servers, watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = LiveStream.decode

    def slow(self: LiveStream, packet: Any) -> Any:
        time.sleep(0.1)
        return decode(self, packet)

    monkeypatch.setattr(LiveStream, "decode", slow)
    watching = watch(small(rtsp_server).url())
    watching.until(lambda: watching.camera.stats.dropped["behind"] > 20)
    watching.until(lambda: bool(watching.frames) and "wall_clock" in watching.frames[-1].notes)
    delays = [time.time() - frame.notes["wall_clock"] for frame in watching.more(10) if "wall_clock" in frame.notes]
    # Without skipping it would lag by 1.5 s more with every second, without end.
    assert max(delays) < 6.0


def test_one_dead_camera_leaves_the_others_alone(rtsp_server: Servers, watch: Callable[..., Watch]) -> None:
    servers = [small(rtsp_server) for _ in range(2)]
    dead, alive = (watch(server.url()) for server in servers)
    for watching in (dead, alive):
        watching.more()
    servers[0].kill()
    dead.until_state("offline")
    alive.more(25)
    assert [event.state for event in alive.events] == ["live"]


def test_many_faults_leave_no_thread_and_no_descriptor(rtsp_server: Servers, fault_proxy: Proxies) -> None:
    server = small(rtsp_server)
    proxy = fault_proxy(server.port)
    with Watch(proxied(server.url(), proxy)).camera as first:  # so that the proxy has opened what it keeps
        assert first.take(LONG) is not None
    wait_until(lambda: proxy.connections == 0)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    watching = Watch(proxied(server.url(), proxy))
    with watching.camera:
        for number in range(6):
            watching.until(lambda number=number: watching.camera.stats.reconnects >= number)  # type: ignore[misc]
            watching.more(3)
            proxy.reset() if number % 2 else proxy.cut()
            watching.until(lambda number=number: len(watching.events) >= 2 * number + 2)  # type: ignore[misc]
        watching.until_state("live")
    watching.check()
    wait_until(lambda: proxy.connections == 0)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files

"""Publishing: what arrives, what is counted, and that nothing a server does holds up who offers frames."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamlight.errors import ConfigError
from streamlight.live import DeliveryEvent, DeliveryStats, Publisher, PublishSettings
from streamlight.live.delivery import Delivery
from streamlight.live.encoding import LiveCodec, LiveEncodeSettings, LiveStream, plan_live
from streamlight.media import ColorSpec, Frame
from tests.faults import FaultProxy, PyavPeer, RtspServer, proxied

Servers = Callable[..., RtspServer]
Peers = Callable[..., PyavPeer]
QUICK = PublishSettings(preset="ultrafast", open_timeout=20, stall_timeout=1.5, backoff_cap=0.5)
BASE = Fraction(1, 90_000)


def picture(index: int, size: tuple[int, int] = (64, 48), *, noise: bool = False) -> Frame:
    """A frame at 30 per second; noise makes it cost bytes."""
    width, height = size
    luma = np.full((height, width), 40 + index % 100, np.uint8)
    luma[:, index * 4 % (width - 8) :][:, :8] = 220
    if noise:
        luma = np.random.default_rng(index).integers(0, 255, (height, width), np.uint8)
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    return Frame((luma, chroma, chroma), ColorSpec(tags=(1, 1, 1, 1)), index * 3000, BASE, 3000)


class Feed:
    """Offers frames at 60 a second and notes how long that takes."""

    def __init__(self, taker: Delivery, *, size: tuple[int, int] = (64, 48), noise: bool = False) -> None:
        self.taker, self.size, self.noise = taker, size, noise
        self.index = 0
        self.longest = 0.0

    def offer(self) -> bool:
        frame = picture(self.index, self.size, noise=self.noise)
        self.index += 1
        begun = time.perf_counter()
        taken = self.taker.offer(frame)
        self.longest = max(self.longest, time.perf_counter() - begun)
        return taken

    def until(self, condition: Callable[[DeliveryStats], bool], *, timeout: float = 60.0) -> DeliveryStats:
        deadline = time.monotonic() + timeout
        while not condition(stats := self.taker.stats):
            assert time.monotonic() < deadline, stats
            self.offer()
            time.sleep(1 / 60)
        return stats


def adds_up(stats: DeliveryStats) -> bool:
    return stats.offered == stats.written + sum(stats.dropped.values()) + stats.waiting


@pytest.fixture
def published() -> Iterator[Callable[..., Publisher]]:
    """Make publishers that are closed at the end."""
    made: list[Publisher] = []

    def make(url: str | Path, settings: PublishSettings = QUICK, **options: object) -> Publisher:
        made.append(Publisher(url, settings=settings, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for publisher in made:
        publisher.close(2.0)


def test_an_rtsp_server_gets_the_picture(
    rtsp_server: Servers, tmp_path: Path, published: Callable[..., Publisher]
) -> None:
    server = rtsp_server(record_to=tmp_path)
    events: list[DeliveryEvent] = []
    publisher = published(server.url("enhanced"), on_change=events.append)
    feed = Feed(publisher)
    feed.until(lambda stats: stats.written >= 80)
    publisher.close()
    came = server.wait_for(lambda found: found["record"]["enhanced"]["open"] == 0)["record"]["enhanced"]
    stats = publisher.stats
    assert came["sessions"] == 1
    assert came["backwards"] == 0
    assert came["keys"] >= 2  # 80 pictures are 2.7 s
    assert came["size"] == [64, 48]
    assert stats.state == "closed"
    assert (stats.restarts, stats.waiting, stats.encoder) == (0, 0, "libx264")
    assert adds_up(stats)
    assert [event.state for event in events] == ["connecting", "live", "closed"]


@pytest.mark.parametrize("protocol", ["tcp", "rtmp"])
def test_other_protocols(protocol: str, pyav_peer: Peers, published: Callable[..., Publisher]) -> None:
    peer = pyav_peer("listen", protocol=protocol)
    feed = Feed(published(peer.url))
    feed.until(lambda stats: stats.written >= 40)
    feed.taker.close()
    peer.wait_for(35)
    times = [pts for pts, _ in peer.seen if pts is not None]
    assert times == sorted(set(times))
    assert peer.size == (64, 48)


def test_a_killed_server_is_found_again(rtsp_server: Servers, published: Callable[..., Publisher]) -> None:
    server = rtsp_server()
    publisher = published(server.url("enhanced"))
    feed = Feed(publisher)
    feed.until(lambda stats: stats.written >= 5)
    server.kill()
    away = feed.until(lambda stats: stats.faults.get("refused", 0) >= 2)
    assert away.state == "offline"
    assert away.fault is not None
    server.restart()
    back = feed.until(lambda stats: stats.state == "live" and stats.written >= away.written + 20)
    assert back.restarts == 1
    assert back.fault is None
    assert back.dropped["offline"] > 0
    assert adds_up(back)
    assert server.wait_for(lambda found: found["record"]["enhanced"]["frames"] > 15)
    assert feed.longest < 0.5


def test_a_server_that_takes_nothing_more_is_left(rtsp_server: Servers, published: Callable[..., Publisher]) -> None:
    server = rtsp_server()
    with FaultProxy(server.port) as proxy:
        publisher = published(proxied(server.url("enhanced"), proxy))
        feed = Feed(publisher, size=(320, 240), noise=True)
        feed.until(lambda stats: stats.written >= 5)
        proxy.freeze()
        stuck = feed.until(lambda stats: stats.state == "offline")
        assert stuck.fault is not None
        assert stuck.fault.reason == "timeout"
        assert stuck.dropped["slow"] > 0
        assert feed.longest < 0.5
        proxy.thaw()
        back = feed.until(lambda stats: stats.state == "live" and stats.written > stuck.written + 10)
        assert adds_up(back)


def test_a_server_that_never_answers_holds_nothing_up(published: Callable[..., Publisher]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = dataclasses.replace(QUICK, open_timeout=1.0, stall_timeout=30)
        publisher = published(f"rtsp://anna:secret@127.0.0.1:{port}/enhanced", settings)
        feed = Feed(publisher)
        stats = feed.until(lambda stats: stats.state == "offline")
        assert stats.fault is not None
        assert stats.fault.reason == "timeout"
        assert "secret" not in str(stats) + publisher.target
        assert stats.written == 0
        assert feed.longest < 0.5
        begun = time.monotonic()
        publisher.close(5.0)
        assert time.monotonic() - begun < 5.0
        assert adds_up(publisher.stats)


def test_a_hanging_encoder_process_is_replaced(rtsp_server: Servers, published: Callable[..., Publisher]) -> None:
    publisher = published(rtsp_server().url("enhanced"))
    feed = Feed(publisher)
    feed.until(lambda stats: stats.written >= 5)
    [child] = children()
    os.kill(child, signal.SIGSTOP)
    stuck = feed.until(lambda stats: stats.state == "offline")
    assert stuck.dropped["fault"] == QUICK.buffers
    feed.until(lambda stats: stats.state == "live" and stats.written > stuck.written)
    assert child not in children()


def children() -> list[int]:
    """Processes that this one has started, and that are still there."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "streamlight.live.child" in line]


def test_credentials_do_not_show_among_the_processes(rtsp_server: Servers, published: Callable[..., Publisher]) -> None:
    server = rtsp_server(credentials=("anna", "secret"))
    feed = Feed(published(server.url("enhanced")))
    feed.until(lambda stats: stats.written >= 1)
    [child] = children()
    for file in ("cmdline", "environ"):
        assert b"secret" not in Path(f"/proc/{child}/{file}").read_bytes()


def test_refused_credentials_are_not_tried_again_at_once(
    rtsp_server: Servers, published: Callable[..., Publisher]
) -> None:
    server = rtsp_server(credentials=("anna", "secret"))
    feed = Feed(published(server.url("enhanced", credentials=("anna", "wrong"))))
    refused = feed.until(lambda stats: stats.state == "offline")
    assert refused.fault is not None
    assert refused.fault.reason == "auth"
    assert "wrong" not in refused.fault.message
    end = time.monotonic() + 1.0
    feed.until(lambda stats: time.monotonic() > end)
    assert feed.taker.stats.faults == {"auth": 1}


def test_another_size_begins_another_session(
    rtsp_server: Servers, tmp_path: Path, published: Callable[..., Publisher]
) -> None:
    server = rtsp_server(record_to=tmp_path)
    feed = Feed(published(server.url("enhanced")))
    feed.until(lambda stats: stats.written >= 10)
    feed.size = (96, 64)
    after = feed.until(lambda stats: stats.written >= 30)
    feed.taker.close()
    came = server.wait_for(lambda found: found["record"]["enhanced"]["open"] == 0)["record"]["enhanced"]
    assert came["sessions"] == 2
    assert came["size"] == [96, 64]
    assert after.restarts == 0
    assert adds_up(feed.taker.stats)


def test_an_hls_folder_plays_and_goes_on_after_a_restart(tmp_path: Path, published: Callable[..., Publisher]) -> None:
    playlist = tmp_path / "new" / "yard.m3u8"
    settings = dataclasses.replace(QUICK, key_interval=0.5, playlist=4)
    for run in range(2):
        publisher = published(playlist, settings)
        written = 0
        for index in range(45):
            written += publisher.offer(picture(index), wait=20)
        publisher.close()
        assert publisher.stats.written == written == 45, run
    text = playlist.read_text()
    assert text.count("#EXT-X-DISCONTINUITY") >= 1
    names = [line for line in text.splitlines() if line.endswith(".ts")]
    assert len(names) == 4
    assert {path.name for path in playlist.parent.glob("*.ts")} >= set(names)
    for name in names:
        with av.open(str(playlist.parent / name)) as segment:
            packets = [packet for packet in segment.demux(video=0) if packet.size]
        assert packets[0].is_keyframe
        assert len(packets) == 15
    probe = ["ffprobe", "-v", "error", "-select_streams", "v", "-count_packets", "-of", "json"]
    probe += ["-show_entries", "stream=nb_read_packets,color_space,codec_name", str(playlist)]
    [stream] = json.loads(subprocess.run(probe, capture_output=True, text=True, check=True).stdout)["streams"]
    assert stream["codec_name"] == "h264"
    assert stream["color_space"] == "bt709"
    assert int(stream["nb_read_packets"]) == 60


def test_deep_colour_is_reduced_and_said(tmp_path: Path, published: Callable[..., Publisher]) -> None:
    color = ColorSpec(bit_depth=10, chroma="444", tags=(1, 1, 1, 1))
    plane = np.full((48, 64), 300, np.uint16)
    publisher = published(tmp_path / "deep.m3u8")
    for index in range(5):
        assert publisher.offer(Frame((plane,) * 3, color, index * 3000, BASE), wait=20)
    publisher.close()
    assert any("4:2:0" in loss for loss in publisher.stats.losses)
    assert any("8 bit" in loss for loss in publisher.stats.losses)


def test_times_that_do_not_increase_are_dropped_and_counted(
    tmp_path: Path, published: Callable[..., Publisher]
) -> None:
    publisher = published(tmp_path / "times.m3u8")
    for pts in (0, 40, 40, 30, 80):
        frame = picture(0)
        frame.pts, frame.time_base = pts, Fraction(1, 1000)
        publisher.offer(frame, wait=20)
    publisher.close()
    assert publisher.stats.dropped == {"out_of_order": 2}
    assert publisher.stats.written == 3
    assert not publisher.offer(picture(1000))
    assert publisher.stats.dropped == {"out_of_order": 2, "closed": 1}


def test_restarts_leave_nothing_behind(tmp_path: Path, published: Callable[..., Publisher]) -> None:
    feed = Feed(published(tmp_path / "x.m3u8"))
    feed.until(lambda stats: stats.written >= 1)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for restarts in range(1, 5):
        os.kill(children()[0], signal.SIGKILL)
        written = feed.taker.stats.written
        feed.until(lambda stats: stats.restarts == restarts and stats.written > written)  # noqa: B023
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert feed.taker.stats.faults == {"other": 4}


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_picture_is_a_packet_at_once_and_key_frames_come_by_time(codec: LiveCodec, tmp_path: Path) -> None:
    settings = LiveEncodeSettings(codec=codec, key_interval=0.4, max_bitrate=500)
    plan = plan_live(settings, picture(0), plays_everywhere=True)
    stream = LiveStream(tmp_path / "x.ts", plan, format="mpegts", options={}, key_interval=0.4)
    times = [0, 1, 2, 13, 14, 26, 27, 28, 100]  # thirtieths of a second
    assert [stream.write(picture(index)) for index in times] == [1] * 9
    assert stream.close() == 0
    with av.open(str(tmp_path / "x.ts")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    assert [packet.pts - packets[0].pts for packet in packets] == [index * 3000 for index in times]
    assert [index for index, packet in zip(times, packets, strict=True) if packet.is_keyframe] == [0, 13, 26, 100]


def test_what_cannot_work_is_refused_at_once(tmp_path: Path) -> None:
    for url in ("ftp://host/x", "picture.png", "rtsp://"):
        with pytest.raises(ConfigError):
            Publisher(url)
    with pytest.raises(ConfigError, match="codec"):
        LiveEncodeSettings(codec="vp9")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="key_interval"):
        PublishSettings(key_interval=0)


def test_settings_that_no_encoder_takes_are_not_tried_again(
    tmp_path: Path, published: Callable[..., Publisher]
) -> None:
    feed = Feed(published(tmp_path / "x.m3u8", dataclasses.replace(QUICK, preset="fastest")))
    stats = feed.until(lambda stats: stats.fault is not None)
    assert stats.fault is not None
    assert stats.fault.permanent
    assert "fastest" in stats.fault.message
    assert not children()


def test_a_protocol_that_this_ffmpeg_lacks_is_named(published: Callable[..., Publisher]) -> None:
    with pytest.raises(av.error.ProtocolNotFoundError):  # else there is something to test with
        av.open("srt://127.0.0.1:9", timeout=1)
    feed = Feed(published("srt://127.0.0.1:9"))
    stats = feed.until(lambda stats: stats.fault is not None)
    assert stats.fault is not None
    assert stats.fault.permanent
    assert "srt" in stats.fault.message
    assert stats.state == "offline"


def test_a_child_outlives_nothing(tmp_path: Path) -> None:
    """A killed parent's child finishes what it has, and ends."""
    code = (
        "import os, signal, sys\n"
        "from tests.live.test_publish import QUICK, Publisher, children, picture\n"
        "publisher = Publisher(sys.argv[1], settings=QUICK)\n"
        "for index in range(20):\n    publisher.offer(picture(index), wait=20)\n"
        "print(*children(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    playlist = tmp_path / "orphan.m3u8"
    run = subprocess.run([sys.executable, "-c", code, str(playlist)], capture_output=True, text=True, timeout=60)
    assert run.returncode == -signal.SIGKILL, run.stderr
    deadline = time.monotonic() + 15
    while Path(f"/proc/{run.stdout.strip()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "#EXT-X-ENDLIST" in playlist.read_text()

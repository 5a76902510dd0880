"""The rehearsal parts do what they say."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
import pytest

from streamlight.errors import DeviceError
from tests.clips import make_clip
from tests.faults import FaultProxy, Mosquitto, PyavPeer, RtspServer, proxied

TCP = {"rtsp_transport": "tcp", "analyzeduration": "1", "fpsprobesize": "0"}
Servers = Callable[..., RtspServer]
Proxies = Callable[[int], FaultProxy]


def watch(url: str) -> av.container.InputContainer:
    return av.open(url, options=TCP, timeout=(10, 1))


def test_serves_pictures_of_the_size_asked_for(rtsp_server: Servers) -> None:
    server = rtsp_server(size=(160, 120), rate=30, mounts=("a", "b"))
    for mount in ("a", "b"):
        with watch(server.url(mount)) as camera:
            frames = [frame for frame, _ in zip(camera.decode(video=0), range(20), strict=False)]
        assert {(frame.width, frame.height) for frame in frames} == {(160, 120)}
        times = [frame.pts for frame in frames if frame.pts is not None]
        assert times == sorted(set(times))
    assert server.status()["cameras"]["a"]["sent"] >= 20


def test_serves_a_file_round_and_round_with_timestamps_that_go_on(rtsp_server: Servers, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=12, rate=25, options={"bf": "0"})
    server = rtsp_server(source=clip, audio=True)
    with watch(server.url()) as camera:
        assert camera.streams.audio
        assert (camera.streams.video[0].width, camera.streams.video[0].height) == (64, 48)
        times, sizes = [], []
        for packet in camera.demux(video=0):
            times.append(packet.pts)
            sizes.append(packet.size)
            if len(times) == 40:
                break
    assert sizes[1:-12] == sizes[13:], "every picture of every round"
    steps = [round((after - before) / 90) for before, after in pairwise(times[1:])]
    # With sound beside it libavformat goes over to the clock of the server's first report, once, about a second on.
    odd = [step for step in steps if step != 40]
    assert len(odd) <= 1, steps
    assert all(0 < step <= 80 for step in odd), steps


def test_other_credentials_are_refused(rtsp_server: Servers) -> None:
    server = rtsp_server(credentials=("anna", "secret"))
    with watch(server.url()) as camera:
        assert camera.streams.video
    with pytest.raises(av.error.HTTPUnauthorizedError):
        watch(server.url(credentials=("anna", "wrong")))
    with pytest.raises(av.error.FFmpegError):
        watch(server.url("nowhere"))


def test_accepts_what_is_published_and_keeps_it(rtsp_server: Servers, tmp_path: Path) -> None:
    server = rtsp_server(record_to=tmp_path)
    subprocess.run([sys.executable, "-c", PUBLISH, server.url("enhanced")], check=True, timeout=60)
    came = server.wait_for(lambda found: found["record"]["enhanced"]["open"] == 0)["record"]["enhanced"]
    assert came["sessions"] == 1
    assert came["frames"] >= 38
    assert came["packets"] >= came["frames"]
    assert came["keys"] >= 2
    assert came["backwards"] == 0
    assert came["size"] == [64, 48]
    with av.open(came["files"][0]) as kept:
        assert sum(1 for _ in kept.decode(video=0)) >= 30


def test_clock_jumps_and_size_changes_within_a_session(rtsp_server: Servers) -> None:
    server = rtsp_server(size=(64, 48), rate=30)
    sizes, times = set(), []
    with watch(server.url()) as camera:
        for frame in camera.decode(video=0):
            times.append(frame.pts)
            sizes.add((frame.width, frame.height))
            if len(times) == 40:
                server.jump()
            if len(times) == 60:
                server.change_size((96, 64))
            if len(times) == 130:
                break
    assert sizes == {(64, 48), (96, 64)}
    assert any(after < before for before, after in pairwise(times[1:]))


def test_a_pause_is_followed_by_all_that_was_due(rtsp_server: Servers) -> None:
    server = rtsp_server(size=(64, 48), rate=60)
    arrivals: list[float] = []
    times: list[int] = []
    with watch(server.url()) as camera:
        for packet in camera.demux(video=0):  # at first those come at once that were sent while the stream was opened
            arrivals.append(time.monotonic())
            times.append(packet.pts)
            if len(arrivals) == 90:
                server.pause(0.5)
            if len(arrivals) == 150:
                break
    waits = [after - before for before, after in pairwise(arrivals[89:])]
    steps = [after - before for before, after in pairwise(times[89:])]
    assert max(waits) > 0.3
    assert sum(wait < 0.005 for wait in waits) > 10
    assert max(steps) < 90_000 * 2 / 60


def test_killed_frozen_and_restarted(rtsp_server: Servers) -> None:
    server = rtsp_server(size=(64, 48))
    port = server.port
    camera = watch(server.url())
    server.freeze()
    with pytest.raises(av.error.ExitError):  # the read timeout
        list(camera.demux(video=0))
    with pytest.raises(DeviceError, match="frozen"):
        server.status()
    server.thaw()
    assert server.status()["connected"] == 1
    camera.close()
    camera = watch(server.url())
    server.kill()
    list(camera.demux(video=0))  # a killed camera looks like the end of a file
    camera.close()
    assert not server.running
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    server.restart(size=(96, 64))
    assert server.port == port
    with watch(server.url()) as again:
        assert again.streams.video[0].width == 96


@pytest.mark.parametrize("frozen", [False, True])
def test_the_server_goes_with_whoever_started_it(rtsp_server: Servers, frozen: bool) -> None:
    rtsp_server().kill()  # skips where there is no server
    code = (
        "import os, signal\n"
        "from tests.faults import RtspServer\n"
        "server = RtspServer().start()\n" + "server.freeze()\n" * frozen + "print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert gone(int(run.stdout))


def gone(pid: int) -> bool:
    """Whether a process ends within seconds; a zombie that nobody waits for has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False


class Echo:
    """A TCP server that sends back what it gets, in this thread: ``ask`` does both ends."""

    def __init__(self, proxies: Proxies) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.proxy = proxies(self.listener.getsockname()[1])
        self.near = socket.create_connection(("127.0.0.1", self.proxy.port), timeout=5)
        self.far, _ = self.listener.accept()
        self.far.settimeout(5)

    def close(self) -> None:
        for sock in (self.near, self.far, self.listener):
            sock.close()


@pytest.fixture
def echo(fault_proxy: Proxies):
    made = Echo(fault_proxy)
    yield made
    made.close()


def test_proxy_forwards_both_ways_and_the_end(echo: Echo) -> None:
    echo.near.sendall(b"ping")
    assert echo.far.recv(10) == b"ping"
    data = os.urandom(1 << 20)
    got = bytearray()
    echo.far.setblocking(False)
    rest = memoryview(data)
    while len(got) < len(data):
        with suppress(BlockingIOError):
            rest = rest[echo.far.send(rest) :] if rest else rest
        got += echo.near.recv(65536)
    assert got == data
    assert echo.proxy.connections == 1
    echo.far.close()
    assert echo.near.recv(10) == b""


def test_proxy_freezes_and_thaws(echo: Echo) -> None:
    echo.proxy.freeze()
    time.sleep(0.05)
    echo.near.sendall(b"held")
    echo.far.settimeout(0.3)
    with pytest.raises(TimeoutError):
        echo.far.recv(10)
    silent = socket.create_connection(("127.0.0.1", echo.proxy.port), timeout=5)
    silent.close()
    echo.proxy.thaw()
    echo.far.settimeout(5)
    assert echo.far.recv(10) == b"held"


def test_proxy_cuts_in_good_order_and_accepts_again(echo: Echo) -> None:
    echo.proxy.cut()
    assert echo.near.recv(10) == b""
    assert echo.far.recv(10) == b""
    with socket.create_connection(("127.0.0.1", echo.proxy.port), timeout=5) as near:
        near.sendall(b"again")
        far, _ = echo.listener.accept()
        with far:
            assert far.recv(10) == b"again"


def test_proxy_resets(echo: Echo) -> None:
    echo.proxy.reset()
    with pytest.raises(ConnectionResetError):
        echo.near.recv(10)


def test_proxy_refuses_while_it_is_down(echo: Echo) -> None:
    echo.proxy.down()
    with pytest.raises(ConnectionResetError):
        echo.near.recv(10)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", echo.proxy.port), timeout=5)
    echo.proxy.up()
    socket.create_connection(("127.0.0.1", echo.proxy.port), timeout=5).close()


def test_proxy_is_as_slow_as_told(echo: Echo) -> None:
    echo.proxy.slow(20_000)
    begun = time.monotonic()
    echo.near.sendall(bytes(10_000))
    got = 0
    while got < 10_000:
        got += len(echo.far.recv(65536))
    assert time.monotonic() - begun > 0.3
    echo.proxy.slow(None)
    with pytest.raises(ValueError, match="positive"):
        echo.proxy.slow(0)


def test_proxy_leads_to_a_camera(rtsp_server: Servers, fault_proxy: Proxies) -> None:
    server = rtsp_server(size=(64, 48), credentials=("anna", "secret"))
    proxy = fault_proxy(server.port)
    with watch(proxied(server.url(), proxy)) as camera:
        assert camera.streams.video[0].width == 64
        proxy.freeze()
        with pytest.raises(av.error.ExitError):
            list(camera.demux(video=0))


PUBLISH = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from tests.faults.peer import _publish
_publish(dict(protocol="rtsp", url=sys.argv[1], listen=False, size=(64, 48), rate=20, frames=40, first_pts=0))
"""


@pytest.mark.parametrize("protocol", ["rtsp", "rtmp"])
def test_a_peer_takes_what_another_publishes(pyav_peer: Callable[..., PyavPeer], protocol: str) -> None:
    taker = pyav_peer("listen", protocol=protocol)
    time.sleep(0.5)  # it listens once it is ready, but cannot say when
    giver = pyav_peer("publish", protocol=protocol, url=taker.url, frames=30, rate=30)
    taker.wait_for(25)
    assert giver.wait() == 0
    assert taker.size == (64, 48)
    times = [pts for pts, _ in taker.seen if pts is not None]
    assert times == sorted(set(times))


def test_a_peer_serves_a_stream(pyav_peer: Callable[..., PyavPeer]) -> None:
    giver = pyav_peer("publish", protocol="tcp", rate=30)
    time.sleep(0.5)
    with av.open(giver.url, timeout=(10, 5)) as camera:
        frames = [frame for frame, _ in zip(camera.decode(video=0), range(10), strict=False)]
    assert len(frames) == 10
    assert all(frame.width == 64 for frame in frames)


def test_a_broker_carries_a_message(mosquitto: Callable[..., Mosquitto]) -> None:
    paho = pytest.importorskip("paho.mqtt.client")
    broker = mosquitto(credentials=("anna", "secret"))
    got: list[bytes] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set("anna", "secret")
    client.on_message = lambda _client, _data, message: got.append(message.payload)
    client.on_connect = lambda c, *_: c.subscribe("events", qos=1)
    client.on_subscribe = lambda c, *_: c.publish("events", b"hello", qos=1)
    client.connect("127.0.0.1", broker.port)
    deadline = time.monotonic() + 10
    while not got and time.monotonic() < deadline:
        client.loop(0.1)
    client.disconnect()
    assert got == [b"hello"]

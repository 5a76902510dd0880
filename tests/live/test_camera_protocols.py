"""Camera over what is not RTSP: HLS, RTMP and MPEG-TS over UDP. FFmpeg's command line sends; the camera reads."""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from streamlight.live import Camera, CameraOptions
from streamlight.media import Frame
from tests.clips import make_clip

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg sends the streams of these tests")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", frames=50, options={"bf": "0", "g": "25"})


@pytest.fixture
def ffmpeg(clip: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Send the clip round and round, at its own pace: ``ffmpeg("-f", "flv", address)``."""
    with ExitStack() as stack:

        def send(*output: str) -> subprocess.Popen[bytes]:
            command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(clip)]
            process = subprocess.Popen([*command, "-map", "0:v", "-c", "copy", *output])
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield send


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def take(camera: Camera, count: int) -> list[Frame]:
    frames = []
    for _ in range(count):
        frame = camera.take(20)
        assert frame is not None, camera.stats
        frames.append(frame)
    assert all(after.pts > before.pts for before, after in pairwise(frames))
    return frames


def test_rtmp_comes_back(ffmpeg: Callable[..., subprocess.Popen[bytes]]) -> None:
    url = f"rtmp://127.0.0.1:{free_port(socket.SOCK_STREAM)}/live/night"
    output = ("-f", "flv", "-listen", "1", url)
    server = ffmpeg(*output)
    with Camera(CameraOptions(url=url, read_timeout=2.0)) as camera:
        take(camera, 20)
        server.kill()
        server.wait()
        while camera.state == "live":
            camera.take(0.1)
        ffmpeg(*output)
        take(camera, 10)
        assert camera.stats.reconnects == 1
        assert camera.info is not None
        assert camera.info.container == "flv"


def test_udp_falls_silent(ffmpeg: Callable[..., subprocess.Popen[bytes]]) -> None:
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    with Camera(CameraOptions(url=url, read_timeout=1.0)) as camera:
        sender = ffmpeg("-f", "mpegts", f"{url}?pkt_size=1316")
        take(camera, 10)
        sender.kill()
        while camera.state != "offline":
            camera.take(0.1)
        fault = camera.stats.fault
    assert fault is not None
    assert fault.reason == "timeout"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server for the folder ``hls``."""
    (tmp_path / "hls").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "hls"))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_hls_is_played_at_its_pace_and_never_twice(
    ffmpeg: Callable[..., subprocess.Popen[bytes]], web: str, tmp_path: Path
) -> None:
    target = tmp_path / "hls" / "live.m3u8"
    sender = ffmpeg("-f", "hls", "-hls_time", "1", "-hls_list_size", "4", str(target))
    with Camera(CameraOptions(url=f"{web}/live.m3u8", read_timeout=1.5)) as camera:
        frames = take(camera, 60)
        # Segments of a second arrive at once; who takes one frame at a time gets nearly all of them all the same.
        span = frames[-1].arrival - frames[0].arrival
        assert span >= 1.5
        assert float(frames[-1].seconds) == pytest.approx(span, abs=1.0)
        sender.kill()
        sender.wait()
        # The playlist stays, and with it the last segments: they must not pass for a camera that is back.
        while camera.stats.dropped["repeated"] < 20:
            camera.take(0.1)
        assert camera.state == "offline"
        assert camera.stats.reconnects == 0

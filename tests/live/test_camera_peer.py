"""Camera and a peer made of PyAV alone: what can be rehearsed where there is no GStreamer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from streamlight.live import Camera, CameraOptions
from streamlight.media import Frame
from tests.faults import PyavPeer

Peers = Callable[..., PyavPeer]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def take_until(camera: Camera, condition: Callable[[list[Frame]], bool]) -> list[Frame]:
    frames: list[Frame] = []
    deadline = time.monotonic() + 40
    while not condition(frames):
        assert time.monotonic() < deadline, camera.stats
        frame = camera.take(0.1)
        if frame is not None:
            frames.append(frame)
    return frames


def test_a_published_stream_is_killed_and_comes_again_with_another_clock(pyav_peer: Peers) -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/live/stream"
    listen = {"rtsp_flags": "listen", "listen_timeout": "30"}
    options = CameraOptions(url=url, read_timeout=2.0, open_timeout=40.0, libav_options=listen)
    with Camera(options) as camera:
        publisher = pyav_peer("publish", url=url, first_pts=90_000)
        frames = take_until(camera, lambda got: len(got) >= 10)
        publisher.kill()
        frames += take_until(camera, lambda got: camera.state != "live")
        pyav_peer("publish", url=url, size=(96, 64))
        frames += take_until(camera, lambda got: len(got) >= 10)
        stats = camera.stats
    assert all(after.pts > before.pts for before, after in pairwise(frames))
    assert {(frame.width, frame.height) for frame in frames} == {(64, 48), (96, 64)}
    assert stats.reconnects == 1
    assert stats.format_changes == 1


@pytest.mark.parametrize("frozen", [False, True])
def test_closing_while_a_peer_serves(pyav_peer: Peers, frozen: bool) -> None:
    peer = pyav_peer("publish", protocol="tcp")
    with Camera(CameraOptions(url=peer.url, read_timeout=30.0)) as camera:
        take_until(camera, lambda got: len(got) >= 5)
        if frozen:
            peer.freeze()
            while camera.take(0.5) is not None:
                pass
            assert camera.stats.frames_out >= 5
        began = time.monotonic()
        camera.close()
        assert time.monotonic() - began < 2
    if frozen:
        peer.thaw()

"""Camera: files, silence, closing, and what is left behind: nothing."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamlight.errors import ConfigError
from streamlight.live import Camera, CameraEvent, CameraOptions, CameraStats
from streamlight.media import Frame, open_source, probe
from streamlight.media.deinterlace import Deinterlace
from tests.clips import dark_picture, make_clip, video_times
from tests.faults import RtspServer


def balanced(stats: CameraStats) -> bool:
    return stats.frames_in == stats.frames_out + sum(stats.dropped.values()) + stats.waiting


def take_all(camera: Camera) -> list[Frame]:
    """Every frame until the camera ends."""
    frames = []
    while (frame := camera.take(20)) is not None:
        frames.append(frame)
    assert camera.ended
    return frames


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "night.mp4", frames=20, rate=25)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield int(sock.getsockname()[1])


# Files.


def test_a_file_is_read_whole_by_whoever_takes_its_frames(clip: Path) -> None:
    with Camera(CameraOptions(url=str(clip))) as camera:
        frames = take_all(camera)
        stats = camera.stats
        info = camera.info
    assert [frame.seconds for frame in frames] == video_times(clip)
    assert {frame.time_base for frame in frames} == {Fraction(1, 90000)}
    assert [frame.index for frame in frames] == list(range(20))
    assert (stats.frames_in, stats.frames_out, dict(stats.dropped)) == (20, 20, {})
    assert stats.fault is not None
    assert stats.fault.reason == "ended"
    assert info is not None
    assert (info.width, info.height) == (64, 48)


def test_the_pictures_are_those_of_the_file_reader(clip: Path) -> None:
    with Camera(CameraOptions(url=str(clip))) as camera, open_source(clip) as source:
        for mine, theirs in zip(take_all(camera), source.frames(), strict=True):
            assert mine.color == theirs.color
            for a, b in zip(mine.planes, theirs.planes, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_interlaced_pictures_are_deinterlaced_as_in_files(tmp_path: Path, mode: Deinterlace) -> None:
    path = make_clip(tmp_path / "fields.mp4", frames=20, options={"flags": "+ildct+ilme", "bf": "0"})
    assert probe(path).interlaced
    with (
        Camera(CameraOptions(url=str(path), deinterlace=mode)) as camera,
        open_source(path, deinterlace=mode) as source,
    ):
        for mine, theirs in zip(take_all(camera), source.frames(), strict=True):
            assert mine.seconds == theirs.seconds
            np.testing.assert_array_equal(mine.planes[0], theirs.planes[0])
        assert source.stats.deinterlaced == (20 if mode == "auto" else 0)


def test_a_file_at_its_own_pace(clip: Path) -> None:
    began = time.monotonic()
    with Camera(CameraOptions(url=str(clip), realtime=True, queue=99)) as camera:
        frames = take_all(camera)
    assert time.monotonic() - began >= 19 / 25 - 0.05
    assert [frame.seconds for frame in frames] == video_times(clip)
    gaps = [after.arrival - before.arrival for before, after in pairwise(frames)]
    assert sum(gaps) == pytest.approx(19 / 25, abs=0.5)
    assert sum(gap > 0.015 for gap in gaps) >= 10, "arrival is when a frame was due"


def test_at_its_own_pace_what_is_not_taken_is_dropped_and_counted(clip: Path) -> None:
    with Camera(CameraOptions(url=str(clip), realtime=True)) as camera:
        first = camera.take(20)
        time.sleep(0.3)
        rest = take_all(camera)
        stats = camera.stats
    assert first is not None
    assert stats.dropped["superseded"] >= 3
    assert stats.frames_out == 1 + len(rest)
    assert stats.frames_in == 20
    assert balanced(stats)


@pytest.mark.parametrize("name", ["none.mp4", "text.mp4"])
def test_a_file_that_cannot_be_read_ends_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 99)
    with Camera(CameraOptions(url=str(tmp_path / name))) as camera:
        assert camera.take(20) is None
        assert camera.ended
        fault = camera.stats.fault
    assert fault is not None
    assert fault.reason == ("not_found" if name == "none.mp4" else "codec")
    assert camera.stats.attempts == 1


def two_sizes(path: Path) -> Path:
    """Motion JPEG whose pictures change size in the middle."""
    with av.open(str(path), "w", format="mpjpeg") as out:
        stream: Any = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index in range(10):
            size = (64, 48) if index < 5 else (96, 80)
            encoder: Any = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = *size, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            picture = av.VideoFrame.from_ndarray(dark_picture(index, *size), format="yuvj420p")
            picture.pts = index
            for packet in [*encoder.encode(picture), *encoder.encode(None)]:
                packet.stream = stream
                packet.pts = packet.dts = index
                out.mux(packet)
    return path


@pytest.mark.parametrize("keep", [False, True])
def test_another_size_in_the_middle(tmp_path: Path, keep: bool) -> None:
    path = two_sizes(tmp_path / "two.mjpg")
    with Camera(CameraOptions(url=str(path), keep_size=keep)) as camera:
        frames = take_all(camera)
        stats, info = camera.stats, camera.info
    sizes = [(frame.width, frame.height) for frame in frames]
    assert sizes == [(64, 48)] * 5 + [(64, 48) if keep else (96, 80)] * 5
    assert stats.format_changes == (0 if keep else 1)
    assert info is not None
    assert (info.width, info.height) == sizes[-1]


def test_damaged_frames_are_dropped_where_that_is_asked_for(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.ts", frames=40, sound=False, options={"bf": "0", "g": "20"})
    data = bytearray(path.read_bytes())
    packet = 188
    middle = len(data) // packet // 2 * packet
    del data[middle : middle + 3 * packet]
    path.write_bytes(data)
    seen = []
    for drop in (False, True):
        with Camera(CameraOptions(url=str(path), drop_damaged=drop)) as camera:
            seen.append((len(take_all(camera)), camera.stats))
    kept, dropped = seen
    assert kept[1].damaged_frames > 0
    assert not kept[1].dropped
    assert dropped[1].dropped["damaged"] == kept[1].damaged_frames
    assert dropped[0] == kept[0] - kept[1].damaged_frames
    assert balanced(dropped[1])


def test_who_takes_frames_may_be_slow_with_a_file_that_has_sound(clip: Path) -> None:
    with Camera(CameraOptions(url=str(clip), read_timeout=0.1)) as camera:
        assert camera.take(20) is not None
        time.sleep(0.5)
        assert len(take_all(camera)) == 19


# Servers that do not answer, and closing.


def test_close_does_not_wait_for_a_silent_server(silent_port: int) -> None:
    threads, files = threading.active_count(), descriptors()
    camera = Camera(CameraOptions(url=f"rtsp://127.0.0.1:{silent_port}/x", open_timeout=60, read_timeout=60))
    camera.start()
    assert camera.take(0.3) is None
    began = time.monotonic()
    camera.close()
    assert time.monotonic() - began < 2
    assert threading.active_count() == threads, "the reading thread is still there"
    assert descriptors() == files
    assert camera.ended


def test_close_does_not_wait_for_a_frozen_camera(rtsp_server: Callable[..., RtspServer]) -> None:
    server = rtsp_server(size=(64, 48))
    threads, files = threading.active_count(), descriptors()
    camera = Camera(CameraOptions(url=server.url(), read_timeout=60))
    camera.start()
    assert camera.take(20) is not None
    server.freeze()
    while camera.take(0.5) is not None:
        pass
    began = time.monotonic()
    camera.close()
    assert time.monotonic() - began < 2
    assert threading.active_count() == threads, "the reading thread is still there"
    assert descriptors() == files
    assert balanced(camera.stats)


def test_close_tells_the_camera(rtsp_server: Callable[..., RtspServer]) -> None:
    server = rtsp_server(size=(64, 48))
    with Camera(CameraOptions(url=server.url())) as camera:
        assert camera.take(20) is not None
        server.wait_for(lambda status: status["cameras"]["camera"]["playing"])
    server.wait_for(lambda status: not status["cameras"]["camera"]["playing"])


def test_closing_before_starting_and_twice(clip: Path) -> None:
    camera = Camera(CameraOptions(url=str(clip)))
    camera.close()
    camera.start()
    assert camera.take(20) is None
    camera.close()
    with pytest.raises(RuntimeError):
        camera.start()


def test_a_silent_server_is_a_timeout_and_attempts_are_limited(silent_port: int) -> None:
    events: list[CameraEvent] = []
    options = CameraOptions(
        url=f"rtsp://anna:geheim@127.0.0.1:{silent_port}/x", open_timeout=0.3, max_attempts=2, backoff_cap=0.05
    )
    with Camera(options, on_change=events.append) as camera:
        assert camera.take(20) is None
        assert camera.ended
        stats = camera.stats
    assert stats.fault is not None
    assert stats.fault.reason == "timeout"
    assert stats.attempts == 2
    assert [(event.before, event.state) for event in events] == [("connecting", "offline")]
    assert "geheim" not in repr(events) + repr(stats) + camera.name


def test_wrong_credentials_are_not_hammered(rtsp_server: Callable[..., RtspServer]) -> None:
    server = rtsp_server(credentials=("anna", "geheim"), size=(64, 48))
    wrong = CameraOptions(url=server.url(credentials=("anna", "falsch")), backoff_cap=0.05)
    with Camera(wrong) as camera:
        assert camera.take(1.0) is None
        stats = camera.stats
    assert stats.fault is not None
    assert stats.fault.reason == "auth"
    assert "falsch" not in stats.fault.message
    assert stats.attempts == 1
    with Camera(CameraOptions(url=server.url())) as right:
        assert right.take(20) is not None


def test_a_protocol_that_is_missing_ends_the_camera() -> None:
    with Camera(CameraOptions(url="nonsense://host/x")) as camera:
        assert camera.take(20) is None
        assert camera.ended


def test_addresses_are_checked_before_anything_runs() -> None:
    with pytest.raises(ConfigError):
        CameraOptions(url="rtsp://")


def test_what_a_callback_raises_does_not_end_the_camera(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: CameraEvent) -> None:
        raise ValueError("mistake of the caller")

    with Camera(CameraOptions(url=str(clip)), on_change=fail) as camera:
        assert len(take_all(camera)) == 20
    assert "on_change failed" in caplog.text


def test_one_thread_waits_for_several_cameras(tmp_path: Path) -> None:
    ready = threading.Event()
    clips = [make_clip(tmp_path / f"{i}.mp4", frames=10, seed=i) for i in range(3)]
    with ExitStack() as stack:
        cameras = [
            stack.enter_context(Camera(CameraOptions(url=str(path), realtime=True, queue=20), ready=ready))
            for path in clips
        ]
        got = {camera.name: 0 for camera in cameras}
        while not all(camera.ended for camera in cameras):
            assert ready.wait(20)
            ready.clear()
            for camera in cameras:
                while camera.take(0) is not None:
                    got[camera.name] += 1
    assert got == {"0.mp4": 10, "1.mp4": 10, "2.mp4": 10}


# Motion JPEG over HTTP: a live source whose timestamps are made up.


class MotionJpeg(http.server.BaseHTTPRequestHandler):
    """Sends ten pictures a second as multipart/x-mixed-replace, as cheap cameras do."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        encoder: Any = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuvj420p", Fraction(1, 10)
        for index in range(100):
            picture = av.VideoFrame.from_ndarray(dark_picture(index), format="yuvj420p")
            picture.pts = index
            body = b"".join(bytes(packet) for packet in encoder.encode(picture))
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + body + b"\r\n")
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.1)

    def log_message(self, *args: object) -> None:
        pass


def test_made_up_timestamps_give_way_to_arrival() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), MotionJpeg) as web:
        threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
        with Camera(CameraOptions(url=f"http://127.0.0.1:{web.server_port}/video")) as camera:
            frames = [camera.take(20) for _ in range(12)]
            assert camera.info is not None
        web.shutdown()
    times = [float(frame.seconds) for frame in frames if frame is not None]
    assert len(times) == 12
    # Ten a second were sent; the demuxer says twenty-five.
    assert times[-1] - times[4] >= 0.6

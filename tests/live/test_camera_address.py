"""Addresses and faults: what is behind a name, and why it cannot be had, from errors that were really provoked."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import av
import pytest

from streamlight.errors import ConfigError, MediaError
from streamlight.live import CameraOptions, Fault
from streamlight.live.address import demuxer_options, parse_address
from streamlight.live.faults import classify, probe
from streamlight.media.live import LiveOptions, LiveStream
from tests.faults import RtspServer


@pytest.mark.parametrize(
    ("url", "kind", "host", "port", "label"),
    [
        ("rtsp://cam/a/b?x=1", "rtsp", "cam", 554, "cam/a/b"),
        ("rtsp://u:p@10.0.0.5:8554/s", "rtsp", "10.0.0.5", 8554, "10.0.0.5:8554/s"),
        ("RTSPS://cam/s", "rtsp", "cam", 322, "cam/s"),
        ("rtsp://[fe80::1]:99/s", "rtsp", "fe80::1", 99, "fe80::1:99/s"),
        ("rtmp://h/app/key", "rtmp", "h", 1935, "h/app/key"),
        ("https://h/live/x.m3u8?token=abc", "hls", "h", 443, "h/live/x.m3u8"),
        ("http://h:81/mjpeg", "http", "h", 81, "h:81/mjpeg"),
        ("srt://h:9000", "srt", None, None, "h:9000"),
        ("udp://:5000", "udp", None, None, ":5000"),
    ],
)
def test_addresses(url: str, kind: str, host: str | None, port: int | None, label: str) -> None:
    address = parse_address(url)
    assert (address.kind, address.host, address.port, address.label) == (kind, host, port, label)
    assert address.is_live


def test_devices_and_files() -> None:
    device = parse_address("/dev/video2")
    assert (device.kind, device.format, device.url, device.label) == ("device", "v4l2", "/dev/video2", "video2")
    assert parse_address("v4l2:///dev/video2") == device
    file = parse_address("clips/a b.mp4")
    assert (file.kind, file.url, file.label, file.is_live) == ("file", "file:clips/a b.mp4", "a b.mp4", False)


@pytest.mark.parametrize("url", ["", "  ", "rtsp://", "rtsp:///path", "rtsp://h:99999/x", "rtsp://h:port/x"])
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(url)


def test_credentials_show_nowhere() -> None:
    address = parse_address("rtsp://anna:geheim@cam:8554/s?token=42")
    assert "geheim" in address.url
    for text in (address.shown, address.label):
        assert "geheim" not in text
        assert "anna" not in text
        assert "42" not in text
    with pytest.raises(ConfigError) as found:
        parse_address("rtsp://anna:geheim@cam:port/s")
    assert "geheim" not in str(found.value)


def test_transport_and_extra_options_reach_libavformat() -> None:
    address = parse_address("rtsp://cam/s")
    options = demuxer_options(address, transport="udp", timeout=2.5, extra={"buffer_size": "9", "timeout": "1"})
    assert options["rtsp_transport"] == "udp"
    assert options["buffer_size"] == "9"
    assert options["timeout"] == "1"
    assert demuxer_options(address, transport="tcp", timeout=2.5)["timeout"] == "2500000"


@pytest.mark.parametrize(
    "wrong",
    [
        {"transport": "sctp"}, {"open_timeout": 0}, {"read_timeout": -1}, {"backoff_cap": 0}, {"decoder_threads": 0},
        {"queue": 0}, {"max_attempts": 0}, {"max_latency": 0}, {"realtime": True},
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CameraOptions(url="rtsp://cam/s", **wrong)  # type: ignore[arg-type]


# Faults.


def fault_of(url: str, *, waited: bool = False, timeout: float = 5.0) -> Fault:
    """The fault that opening this address really gives."""
    address = parse_address(url)
    options = LiveOptions(
        address.url, address.format, demuxer_options(address, transport="tcp", timeout=5),
        open_timeout=timeout, read_timeout=timeout,
    )  # fmt: skip
    with pytest.raises(MediaError) as found, LiveStream(options):
        pass
    return classify(found.value, address, waited=waited)


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(HTTPStatus(int(self.path.strip("/"))))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_refused(free_port: int) -> None:
    for scheme in ("rtsp", "rtmp", "http", "rtsps"):
        fault = fault_of(f"{scheme}://127.0.0.1:{free_port}/x")
        assert (fault.reason, fault.unreachable) == ("refused", False), scheme
        assert str(free_port) in fault.message


def test_unknown_host() -> None:
    fault = fault_of("rtsp://no-such-host.invalid/x")
    assert (fault.reason, fault.unreachable) == ("not_found", True)
    assert "host name" in fault.message


@pytest.mark.parametrize(("status", "reason"), [(401, "auth"), (403, "auth"), (404, "not_found"), (500, "other")])
def test_http_answers(web: str, status: int, reason: str) -> None:
    fault = fault_of(f"http://u:geheim@{web}/{status}")
    assert fault.reason == reason
    assert "geheim" not in fault.message


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_no_tls_behind_the_port(web: str, scheme: str) -> None:
    assert fault_of(f"{scheme}://{web}/200").reason == "tls"


def test_rtsp_answers(rtsp_server: Callable[..., RtspServer]) -> None:
    server = rtsp_server(credentials=("anna", "geheim"))
    wrong = fault_of(server.url(credentials=("anna", "falsch")))
    assert wrong.reason == "auth"
    assert "falsch" not in wrong.message
    assert fault_of(server.url("nothing")).reason == "not_found"


def test_a_host_that_does_not_even_take_connections() -> None:
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(3):  # fill the queue: the system drops what comes after
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(sock.getsockname())
        url = f"rtsp://127.0.0.1:{sock.getsockname()[1]}/x"
        fault = fault_of(url, waited=True, timeout=0.3)
        assert (fault.reason, fault.unreachable) == ("timeout", True)


def test_a_silent_server_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"rtsp://127.0.0.1:{sock.getsockname()[1]}/x"
        assert fault_of(url, waited=True, timeout=0.5).reason == "timeout"
        assert probe(parse_address(url)) is None


def test_a_server_that_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:

        def hang_up() -> None:
            sock.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        fault = fault_of(f"rtsp://127.0.0.1:{sock.getsockname()[1]}/x")
    assert fault.reason in ("ended", "other")
    assert "hung up" in fault.message or "closed" in fault.message
    assert not fault.unreachable


def test_files_and_devices(tmp_path: Path) -> None:
    assert fault_of(str(tmp_path / "none.mp4")).reason == "not_found"
    assert fault_of("/dev/video99").reason == "not_found"
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 100)
    assert fault_of(str(text)).reason == "codec"


def test_a_stream_without_video_is_a_codec_fault(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame(format="s16", layout="mono", samples=800)
        silence.sample_rate = 8000
        out.mux(stream.encode(silence))
    fault = fault_of(str(path))
    assert fault.reason == "codec"
    assert "no video" in fault.message


def test_a_protocol_that_this_build_lacks_is_permanent() -> None:
    fault = fault_of("nonsense://host/x")
    assert fault.permanent
    assert "nonsense" in fault.message

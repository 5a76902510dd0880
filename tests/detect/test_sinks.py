"""Sinks: everything arrives, or is counted with its cause; nothing waits for them; nobody learns their passwords."""

from __future__ import annotations

import http.server
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import pytest

from streamlight.detect import CallbackSink, Detection, DetectionEvent, EventSink, JsonLinesSink, open_sink
from streamlight.detect.mqtt import topic_of
from streamlight.detect.sink import CLOSED, FULL, LATE, REFUSED, BufferedSink, Undelivered, pause_after
from streamlight.errors import ConfigError, MediaError

PASSWORD = "geheim"


def event(index: int = 0, camera: str = "yard") -> DetectionEvent:
    found = (Detection("person", 0, 0.912345, (1.0, 2.5, 30.123456, 40.0)),)
    clock = 1_700_000_000.25 + index
    return DetectionEvent(camera, index, 3000 * index, Fraction(1, 90000), clock, 640, 360, "enhanced", found)


def adds_up(sink: EventSink) -> bool:
    stats = sink.stats
    return stats.emitted == stats.written + sum(stats.dropped.values()) + stats.waiting


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def test_an_event_in_json():
    plain = json.loads(json.dumps(event(3).to_json()))
    assert plain == {
        "camera": "yard",
        "index": 3,
        "pts": 9000,
        "time_base": "1/90000",
        "seconds": 0.1,
        "wall_clock": 1_700_000_003.25,
        "utc": "2023-11-14T22:13:23.250Z",
        "width": 640,
        "height": 360,
        "on": "enhanced",
        "detections": [{"label": "person", "label_id": 0, "score": 0.9123, "box": [1.0, 2.5, 30.12, 40.0]}],
    }


class Held(BufferedSink):
    """Delivers when it is let."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__("held", **keywords)
        self.gate = threading.Event()
        self.got: list[int] = []

    def _deliver(self, event: DetectionEvent) -> None:
        self.gate.wait(10.0)
        self.got.append(event.index)


def test_a_full_buffer_drops_the_oldest_and_never_waits():
    sink = Held(capacity=3)
    sink.emit(event(0))
    wait_for(lambda: sink.stats.waiting == 1 and not sink._waiting)  # under way
    begin = time.monotonic()
    taken = [sink.emit(event(index)) for index in range(1, 8)]
    assert time.monotonic() - begin < 1.0
    assert taken == [True] * 3 + [False] * 4
    assert adds_up(sink)
    sink.gate.set()
    sink.close()
    assert sink.got == [0, 5, 6, 7]
    assert sink.stats.dropped == {FULL: 4}
    assert (sink.stats.written, sink.stats.waiting, adds_up(sink)) == (4, 0, True)


def test_patience_waits_for_room():
    sink = Held(capacity=1)
    sink.emit(event(0))
    wait_for(lambda: not sink._waiting)
    sink.emit(event(1))
    threading.Timer(0.1, sink.gate.set).start()
    assert sink.emit(event(2), timeout=10.0)
    sink.close()
    assert sink.got == [0, 1, 2]


def test_flushing_waits_for_what_was_handed_over_and_no_longer_than_asked():
    sink = Held()
    assert sink.flush(0.0), "nothing was handed over"
    sink.emit(event(0))
    sink.emit(event(1))
    assert not sink.flush(0.05)
    threading.Timer(0.05, sink.gate.set).start()
    assert sink.flush(10.0)
    assert sink.got == [0, 1]
    assert (sink.stats.written, sink.stats.waiting) == (2, 0)
    assert sink.emit(event(2)), "it goes on"
    sink.close()


def test_what_is_not_delivered_at_the_end_is_counted():
    sink = Held()
    for index in range(3):
        sink.emit(event(index))
    begin = time.monotonic()
    sink.close(timeout=0.2)
    assert time.monotonic() - begin < 2.0
    assert sink.stats.dropped == {LATE: 3}
    assert not sink.emit(event(9))
    assert sink.stats.dropped == {LATE: 3, CLOSED: 1}
    sink.gate.set()  # what was under way ends, and is not counted twice
    wait_for(lambda: sink.got == [0])
    assert adds_up(sink)
    sink.close()


def test_failures_are_repeated_in_order_and_told(monkeypatch):
    monkeypatch.setattr("streamlight.detect.sink._FIRST_PAUSE", 0.01)

    class Shaky(BufferedSink):
        attempts = 0
        got: list[int] = []  # noqa: RUF012

        def _deliver(self, event: DetectionEvent) -> None:
            self.attempts += 1
            if self.attempts in (1, 2, 4):
                raise Undelivered(f"http://user:{PASSWORD}@host said no")
            self.got.append(event.index)

    sink = Shaky(f"http://user:{PASSWORD}@host")
    for index in range(3):
        sink.emit(event(index))
    sink.close()
    assert sink.got == [0, 1, 2]
    stats = sink.stats
    assert (stats.written, stats.retries, stats.state, stats.fault) == (3, 3, "live", "http://***@host said no")
    assert PASSWORD not in sink.name + repr(stats)


def test_pauses_grow_to_a_cap():
    assert 0.25 <= pause_after(1) <= 0.5
    assert all(15.0 <= pause_after(count) <= 30.0 for count in (7, 50, 10_000))


def test_callback():
    got: list[DetectionEvent] = []

    def take(one: DetectionEvent) -> None:
        if one.index == 1:
            raise ValueError("mine")
        got.append(one)

    sink = open_sink(take)
    assert isinstance(sink, CallbackSink)
    for index in range(3):
        sink.emit(event(index))
    sink.close()
    assert [one.index for one in got] == [0, 2]
    assert sink.stats.dropped == {"failed (ValueError)": 1}
    assert adds_up(sink)


def test_json_lines_are_appended_and_survive_rotation(tmp_path):
    path = tmp_path / "events.jsonl"
    for begin in (0, 2):
        sink = open_sink(str(path))
        sink.emit(event(begin))
        sink.emit(event(begin + 1))
        sink.close()
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
    sink = open_sink(path)
    sink.emit(event(4))
    wait_for(lambda: sink.stats.written == 1)
    path.rename(tmp_path / "events.1")
    sink.emit(event(5))
    sink.close()
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [5]
    assert len((tmp_path / "events.1").read_text().splitlines()) == 5
    fresh = open_sink(path, overwrite=True)
    fresh.close()
    assert path.read_text() == ""


def test_json_lines_on_a_full_disk_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("streamlight.detect.sink._FIRST_PAUSE", 0.01)
    sink = JsonLinesSink(tmp_path / "events.jsonl")
    whole, calls = sink._append, []

    def append(line: bytes, file: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            whole(line[:10], _Full(file))
        else:
            whole(line, file)

    monkeypatch.setattr(sink, "_append", append)
    sink.emit(event(0))
    sink.close()
    assert len(calls) == 2
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["index"] == 0
    assert sink.stats.retries == 1


class _Full:
    """A file on a disk that is full after four bytes."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.seek, self.seekable, self.truncate = file.seek, file.seekable, file.truncate

    def write(self, data: memoryview) -> int:
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return int(self.file.write(data[:4]))


def test_json_lines_to_stdout(capfdbinary):
    sink = open_sink("-")
    sink.emit(event(1))
    sink.close()
    assert json.loads(capfdbinary.readouterr().out)["index"] == 1


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(MediaError, match=r"events file .* cannot be written"):
        open_sink(tmp_path / "no" / "events.jsonl")


@contextmanager
def web(answers: list[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, list[tuple[str, dict[str, str], Any]]]]:
    """A web server that gives these answers, then 204; yields its port and what it got."""
    got: list[tuple[str, dict[str, str], Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, dict(self.headers), body))
            status, headers = answers.pop(0) if answers else (204, {})
            self.send_response(status)
            for key, value in ({"Content-Length": "0"} | headers).items():
                self.send_header(key, value)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port, got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_webhook(monkeypatch):
    monkeypatch.setattr("streamlight.detect.sink._FIRST_PAUSE", 0.01)
    answers = [(200, {}), (503, {}), (429, {"Retry-After": "0"}), (200, {}), (404, {}), (302, {"Location": "/other"})]
    with web(answers) as (port, got):
        sink = open_sink(f"http://me:{PASSWORD}@127.0.0.1:{port}/hook?token={PASSWORD}")
        for index in range(5):
            sink.emit(event(index))
        sink.close()
    assert [body["index"] for _, _, body in got] == [0, 1, 1, 1, 2, 3, 4]
    path, headers, body = got[0]
    assert path == f"/hook?token={PASSWORD}"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"].startswith("Basic ")
    assert body["detections"][0]["label"] == "person"
    stats = sink.stats
    assert (stats.written, stats.retries, stats.dropped) == (3, 2, {REFUSED: 2})
    assert PASSWORD not in sink.name + repr(stats)


def test_a_dead_webhook_holds_nobody_up_and_recovers(monkeypatch):
    monkeypatch.setattr("streamlight.detect.sink._LAST_PAUSE", 0.05)
    with web([]) as (port, _):
        pass
    sink = open_sink(f"http://127.0.0.1:{port}/")
    begin = time.monotonic()
    for index in range(3):
        sink.emit(event(index))
    assert time.monotonic() - begin < 1.0
    wait_for(lambda: sink.stats.state == "offline")
    assert "refused" in str(sink.stats.fault)
    server = None
    try:
        got: list[int] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["index"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        wait_for(lambda: sink.stats.written == 3)
        assert got == [0, 1, 2]
    finally:
        sink.close()
        if server is not None:
            server.shutdown()
            server.server_close()


def test_wrong_credentials_are_not_hammered():
    with web([(401, {})] * 50) as (port, got):
        sink = open_sink(f"http://me:{PASSWORD}@127.0.0.1:{port}/")
        sink.emit(event())
        wait_for(lambda: sink.stats.retries == 1)
        time.sleep(0.7)  # longer than the first of the usual pauses
        assert len(got) == 1
        assert "check user and password" in str(sink.stats.fault)
        sink.close(timeout=0.1)


@pytest.mark.parametrize(
    "address",
    ["ftp://host/x", "http:///x", "http://host:99999/x", "mqtt://", "mqtt://host/a/#", "mqtt://host/a?qos=3",
     "mqtt://host/a?user=x"],
)  # fmt: skip
def test_addresses_that_are_none(address):
    with pytest.raises(ConfigError, match="event sink"):
        open_sink(address)


@pytest.mark.parametrize("mark", "#/?")
def test_a_password_is_not_shown_even_where_it_is_misread(mark):
    with pytest.raises(ConfigError, match="%23") as caught:
        open_sink(f"http://me:{PASSWORD}{mark}rest@host/x")
    assert PASSWORD not in str(caught.value)
    assert "rest" not in str(caught.value)


def test_variables_stand_for_passwords(monkeypatch):
    monkeypatch.setenv("HOOK_PASSWORD", PASSWORD)
    with web([]) as (port, got):
        sink = open_sink(f"http://me:${{HOOK_PASSWORD}}@127.0.0.1:{port}/")
        sink.emit(event())
        sink.close()
    assert got[0][1]["Authorization"] == "Basic bWU6Z2VoZWlt"
    with pytest.raises(ConfigError, match="NO_SUCH_THING is not set"):
        open_sink("http://me:${NO_SUCH_THING}@host/")


def test_topics():
    assert topic_of("a/{camera}/b", "yard") == "a/yard/b"
    assert topic_of("a/{camera}", "rtsp://x/+#") == "a/rtsp:__x___"
    assert topic_of("a", "yard") == "a"


def test_mqtt(mosquitto):
    paho = pytest.importorskip("paho.mqtt.client")
    broker = mosquitto(credentials=("me", PASSWORD))
    got: list[tuple[str, Any]] = []
    ready = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set("me", PASSWORD)
    client.on_message = lambda client, data, message: got.append((message.topic, json.loads(message.payload)))
    client.on_subscribe = lambda *rest: ready.set()
    client.connect("127.0.0.1", broker.port)
    client.subscribe("#", qos=1)
    client.loop_start()
    assert ready.wait(10.0)
    sink = open_sink(f"mqtt://me:{PASSWORD}@127.0.0.1:{broker.port}/night/{{camera}}")
    for index in range(3):
        sink.emit(event(index, camera="yard/1"))
    sink.close()
    wait_for(lambda: len(got) == 3)
    client.loop_stop()
    assert [topic for topic, _ in got] == ["night/yard_1"] * 3
    assert [body["index"] for _, body in got] == [0, 1, 2]
    assert (sink.stats.written, sink.stats.state) == (3, "live")
    assert PASSWORD not in sink.name + repr(sink.stats)


def test_mqtt_with_a_wrong_password_and_a_dead_broker(mosquitto, monkeypatch, caplog):
    pytest.importorskip("paho.mqtt.client")
    monkeypatch.setattr("streamlight.detect.sink._LAST_PAUSE", 0.05)
    caplog.set_level(logging.DEBUG)
    broker = mosquitto(credentials=("me", "right"))
    sink = open_sink(f"mqtt://me:{PASSWORD}@127.0.0.1:{broker.port}/a")
    sink.emit(event())
    wait_for(lambda: sink.stats.retries >= 1)
    assert "refuses us" in str(sink.stats.fault)
    sink.close(timeout=0.1)
    sink = open_sink(f"mqtt://me:right@127.0.0.1:{broker.port}/a")
    sink.emit(event(0))
    wait_for(lambda: sink.stats.written == 1)
    broker.kill()
    sink.emit(event(1))
    wait_for(lambda: sink.stats.state == "offline")
    broker.start()
    wait_for(lambda: sink.stats.written == 2)
    sink.close()
    assert adds_up(sink)
    assert PASSWORD not in caplog.text

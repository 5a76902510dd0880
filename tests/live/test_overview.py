"""Metrics that Prometheus itself can read, health that tells a stuck process from an absent camera, and logs."""

from __future__ import annotations

import io
import json
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from streamlight.engine import LatencyHistogram
from streamlight.errors import MediaError
from streamlight.live.health import STUCK_AFTER, StatusServer, health
from streamlight.live.logs import LOGGER, log_event, start_logging
from streamlight.live.metrics import BOUNDS, render_metrics
from streamlight.live.overview import CameraStatus, DeliveryStatus, LiveStatus

prometheus = pytest.importorskip("prometheus_client.parser")


def camera(name: str = "yard", state: str = "live", **changes) -> CameraStatus:
    latency = LatencyHistogram()
    for value in (0.004, 0.03, 0.03, 0.2, 60.0):
        latency.add(value)
    whole = CameraStatus(
        name=name,
        url="rtsp://***@host/x",
        state=state,
        fault=None if state == "live" else {"reason": "auth", "message": "401"},
        frames_in=10,
        frames_out=5,
        dropped={"superseded": 3, "too old": 2},
        waiting=0,
        reconnects=2,
        latency=latency,
        pictures={"enhanced": 4, "untouched": 1},
        light=0.125,
        detections=7,
        delivery=(DeliveryStatus("publish", "rtsp://server/x", "live", 5, 4, {"server away": 1}, 2),),
    )
    return replace(whole, **changes)


def status(*cameras: CameraStatus, beat: float = 0.0) -> LiveStatus:
    sinks = {"events.jsonl": {"written": 3, "dropped": {"buffer full": 1}}}
    return LiveStatus(cameras or (camera(),), "small", 1, 2, 1, beat or time.monotonic(), sinks)


def samples(text: str) -> dict[tuple[str, ...], float]:
    found = {}
    for family in prometheus.text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, *(value for _, value in sorted(sample.labels.items())))] = sample.value
    return found


def test_metrics_are_what_was_counted() -> None:
    found = samples(render_metrics(status(camera(), camera("gate", "offline"))).decode())
    assert found["streamlight_frames_in_total", "yard"] == 10
    assert found["streamlight_frames_out_total", "yard"] == 5
    assert found["streamlight_frames_dropped_total", "yard", "superseded"] == 3
    assert found["streamlight_pictures_total", "yard", "untouched"] == 1
    assert found["streamlight_camera_state", "yard", "live"] == 1
    assert found["streamlight_camera_state", "gate", "live"] == 0
    assert found["streamlight_camera_state", "gate", "offline"] == 1
    assert found["streamlight_camera_reconnects_total", "gate"] == 2
    assert found["streamlight_detections_total", "yard"] == 7
    assert found["streamlight_delivered_total", "yard", "publish"] == 4
    assert found["streamlight_delivery_dropped_total", "yard", "server away", "publish"] == 1
    assert found["streamlight_events_dropped_total", "buffer full", "events.jsonl"] == 1
    assert found["streamlight_ladder_rung",] == 1
    assert found["streamlight_ladder_steps_total", "down"] == 2


def test_the_latency_histogram_is_cumulative_and_ends_in_everything() -> None:
    found = samples(render_metrics(status()).decode())
    counts = [found["streamlight_latency_seconds_bucket", "yard", str(bound)] for bound in BOUNDS]
    assert counts == sorted(counts)
    by_bound = dict(zip(BOUNDS, counts, strict=True))
    assert (by_bound[0.01], by_bound[0.05], by_bound[0.25], by_bound[10.0]) == (1, 3, 4, 4)
    assert found["streamlight_latency_seconds_bucket", "yard", "+Inf"] == 5
    assert found["streamlight_latency_seconds_count", "yard"] == 5
    assert found["streamlight_latency_seconds_sum", "yard"] == pytest.approx(60.264)


def test_the_documented_metrics_are_those_that_are_served() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "live.md").read_text("utf-8")
    text = render_metrics(status()).decode()
    served = {
        f"{f.name}_total" if f.type == "counter" else f.name for f in prometheus.text_string_to_metric_families(text)
    }
    assert set(re.findall(r"`(streamlight_[a-z_]+)`", page)) == served


def test_an_absent_camera_is_degraded_and_a_stuck_thread_is_not_healthy() -> None:
    assert health(status(), time.monotonic())[1]["status"] == "ok"
    fine, facts = health(status(camera(), camera("gate", "offline")), time.monotonic())
    assert fine
    assert facts["status"] == "degraded"
    assert facts["cameras"]["gate"] == {"state": "offline", "fault": {"reason": "auth", "message": "401"}}
    now = time.monotonic()
    fine, facts = health(status(beat=now - STUCK_AFTER - 1), now)
    assert not fine
    assert facts["status"] == "stuck"


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_server_answers_this_machine_only_unless_told_otherwise() -> None:
    moment = status()
    with StatusServer(lambda: moment, port=0) as server:
        code, text = get(server.port, "/metrics")
        assert code == 200
        assert samples(text)["streamlight_frames_in_total", "yard"] == 10
        code, text = get(server.port, "/healthz")
        assert (code, json.loads(text)["status"]) == (200, "ok")
        moment = status(beat=time.monotonic() - STUCK_AFTER - 1)
        assert get(server.port, "/healthz")[0] == 503
        assert get(server.port, "/")[0] == 404
        assert get(server.port, "/metrics", Host="evil.example")[0] == 403
        with pytest.raises(MediaError, match="cannot be listened on"):
            StatusServer(lambda: moment, port=server.port)
    with StatusServer(lambda: moment, port=0, host="0.0.0.0") as server:
        assert get(server.port, "/metrics", Host="monitor.lan")[0] == 200


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    before = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    yield io.StringIO()
    LOGGER.handlers[:], LOGGER.propagate = before[0], before[2]
    LOGGER.setLevel(before[1])


def test_json_logs_are_one_object_a_line_without_credentials(lines: io.StringIO) -> None:
    start_logging("json", stream=lines)
    log_event("camera-state", "rtsp://user:s3cret@host/x is\naway", camera="yard", state="offline",
              urls=["rtsp://a:s3cret@b/"], tries=3)  # fmt: skip
    log_event("hidden", "nobody asked", level=logging.DEBUG)
    (line,) = lines.getvalue().splitlines()
    entry = json.loads(line)
    assert entry["event"] == "camera-state"
    assert entry["camera"] == "yard"
    assert entry["state"] == "offline"
    assert entry["tries"] == 3
    assert entry["level"] == "info"
    assert entry["time"].endswith("Z")
    assert "s3cret" not in line


def test_text_logs_are_one_line_each_without_credentials(lines: io.StringIO) -> None:
    start_logging("text", stream=lines)
    log_event("camera-state", "rtsp://user:s3cret@host/x is\naway", camera="yard", level=logging.WARNING)
    (line,) = lines.getvalue().splitlines()
    assert line[20:] == " yard: warning: rtsp://***@host/x is away"[0:]
    assert line[19] == "Z"


def test_setting_up_twice_does_not_log_twice(lines: io.StringIO) -> None:
    start_logging("text", stream=lines)
    start_logging("text", stream=lines)
    log_event("a", "once")
    assert lines.getvalue().count("once") == 1

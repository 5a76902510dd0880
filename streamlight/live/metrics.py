"""Prometheus metrics of a live run. Needs the extra ``metrics`` (prometheus-client)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from streamlight.errors import ConfigError
from streamlight.live.overview import CameraStatus, LiveStatus

BOUNDS: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram's buckets, in seconds."""

STATES: Final = ("connecting", "live", "stalled", "offline")


def render_metrics(status: LiveStatus) -> bytes:
    """The metrics of a moment in Prometheus' text format.

    Raises:
        ConfigError: prometheus-client is not installed.
    """
    check_metrics()
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(lambda: status))
    return bytes(generate_latest(registry))


def check_metrics() -> None:
    """Raise what the user must hear if metrics cannot be served.

    Raises:
        ConfigError: prometheus-client is not installed.
    """
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise ConfigError("--metrics needs prometheus-client: pip install 'streamlight[metrics]'") from error


class _Collector:
    """Turns a status into metric families; nothing is counted twice or kept."""

    def __init__(self, status: Callable[[], LiveStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Any]:
        """One family after another."""
        from prometheus_client.core import GaugeMetricFamily

        status = self._status()
        yield from _frames(status.cameras)
        yield from _cameras(status.cameras)
        yield _latency(status.cameras)
        yield from _deliveries(status.cameras)
        yield from _events(status)
        rung = GaugeMetricFamily("streamlight_ladder_rung", "Rung of the latency ladder in force; 0 is the best")
        rung.add_metric([], status.rung_index)
        yield rung
        steps = _counter("streamlight_ladder_steps", "Steps of the latency ladder", "direction")
        steps.add_metric(["down"], status.steps_down)
        steps.add_metric(["up"], status.steps_up)
        yield steps


def _counter(name: str, text: str, *labels: str) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, text, labels=labels)


def _frames(cameras: tuple[CameraStatus, ...]) -> Iterator[Any]:
    came = _counter("streamlight_frames_in", "Frames that a camera delivered", "camera")
    went = _counter("streamlight_frames_out", "Frames handed over", "camera")
    lost = _counter("streamlight_frames_dropped", "Frames dropped, by cause", "camera", "cause")
    done = _counter("streamlight_pictures", "Frames handed over, by what was done to them", "camera", "kind")
    for camera in cameras:
        came.add_metric([camera.name], camera.frames_in)
        went.add_metric([camera.name], camera.frames_out)
        for cause, count in camera.dropped.items():
            lost.add_metric([camera.name, cause], count)
        for kind, count in camera.pictures.items():
            done.add_metric([camera.name, kind], count)
    yield from (came, went, lost, done)


def _cameras(cameras: tuple[CameraStatus, ...]) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    states = GaugeMetricFamily("streamlight_camera_state", "1 for the state a camera is in", labels=("camera", "state"))
    light = GaugeMetricFamily("streamlight_camera_light", "Light level, 0 to 1", labels=("camera",))
    again = _counter("streamlight_camera_reconnects", "Connections made again", "camera")
    found = _counter("streamlight_detections", "Things detected", "camera")
    for camera in cameras:
        for state in STATES:
            states.add_metric([camera.name, state], int(camera.state == state))
        if camera.light is not None:
            light.add_metric([camera.name], camera.light)
        again.add_metric([camera.name], camera.reconnects)
        found.add_metric([camera.name], camera.detections)
    yield from (states, light, again, found)


def _latency(cameras: tuple[CameraStatus, ...]) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(
        "streamlight_latency_seconds", "From reading a packet to handing its frame over", labels=("camera",)
    )
    for camera in cameras:
        counts = camera.latency.cumulative(BOUNDS)
        # The thread that adds may be between two counters: the last bucket must not be smaller than the others.
        total = max(camera.latency.count, counts[-1])
        buckets = [(str(bound), count) for bound, count in zip(BOUNDS, counts, strict=True)]
        family.add_metric([camera.name], [*buckets, ("+Inf", total)], sum_value=camera.latency.total)
    return family


def _deliveries(cameras: tuple[CameraStatus, ...]) -> Iterator[Any]:
    written = _counter("streamlight_delivered", "Frames published or recorded", "camera", "kind")
    lost = _counter("streamlight_delivery_dropped", "Frames not published or recorded, by cause", "camera", "kind",
                    "cause")  # fmt: skip
    again = _counter("streamlight_delivery_restarts", "Publishers and recorders begun again", "camera", "kind")
    for camera in cameras:
        for delivery in camera.delivery:
            written.add_metric([camera.name, delivery.kind], delivery.written)
            again.add_metric([camera.name, delivery.kind], delivery.restarts)
            for cause, count in delivery.dropped.items():
                lost.add_metric([camera.name, delivery.kind, cause], count)
    yield from (written, lost, again)


def _events(status: LiveStatus) -> Iterator[Any]:
    written = _counter("streamlight_events_written", "Detection events delivered", "sink")
    lost = _counter("streamlight_events_dropped", "Detection events lost, by cause", "sink", "cause")
    for name, figures in status.sinks.items():
        written.add_metric([name], figures.get("written", 0))
        for cause, count in figures.get("dropped", {}).items():
            lost.add_metric([name, cause], count)
    yield from (written, lost)

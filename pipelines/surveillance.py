"""Cameras in; brighter pictures, recordings and detections out, for months.

A short composition of the library, to be copied and changed: cameras that come back by themselves
(:mod:`streamlight.live.camera`), one thread that enhances the newest frame of each (:mod:`.live_loop`), a ladder that
keeps the latency contract (:mod:`streamlight.live.ladder`), and deliveries that never hold anybody up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from streamlight.pipelines.building import one_per_device
from streamlight.pipelines.live_delivery import deliveries_for
from streamlight.pipelines.live_detect import DetectWorker
from streamlight.pipelines.live_lane import Lane
from streamlight.pipelines.live_loop import LiveLoop, OnFrame
from streamlight.pipelines.live_report import LiveReport, lowest_of, make_report
from streamlight.pipelines.live_rungs import Rungs

from streamlight.cameras import CameraEntry
from streamlight.config import Config
from streamlight.detect import Detector, EventSink, Observer, load_detector, open_sink
from streamlight.enhance.gate import DarkGate
from streamlight.errors import ConfigError
from streamlight.live.address import parse_address
from streamlight.live.camera import Camera
from streamlight.live.camera_status import CameraEvent
from streamlight.live.health import StatusServer
from streamlight.live.ladder import Ladder, LadderChange
from streamlight.live.logs import log_event
from streamlight.live.options import CameraOptions
from streamlight.live.overview import LiveStatus

__all__ = ["LiveReport", "LiveRun", "run_live"]

CLOSE_WITHIN = 4.0
"""Seconds for closing everything; service managers kill after five or ten."""


def run_live(
    cameras: Sequence[CameraEntry],
    config: Config | None = None,
    *,
    detector: Detector | None = None,
    sinks: Sequence[EventSink] | None = None,
    stop: threading.Event | None = None,
    on_frame: OnFrame | None = None,
    on_start: Callable[[LiveRun], object] | None = None,
) -> LiveReport:
    """Enhance cameras until stopped.

    Args:
        cameras: As :func:`streamlight.cameras.load_cameras` gives them, or made by hand; names must differ.
        config: The configuration; the defaults if None.
        detector: Looks at the pictures, in place of the one that the configuration names; is not closed.
        sinks: Are told what it finds, in place of those of the configuration; are not closed.
        stop: Ends the run when set, from any thread or a signal handler. Recordings are closed so that they play.
        on_frame: Called with the camera's name and every finished frame; must be quick. With several devices each has a
            thread of its own that calls it.
        on_start: Called once with the running object, whose :meth:`LiveRun.status` can be asked from any thread.

    Returns:
        The account. Absent and broken cameras are no errors; they are in it.

    Raises:
        ConfigError: A setting is wrong.
        ModelError: The model cannot be loaded.
        DeviceError: The device is not available.
        MediaError: A destination cannot be written, or the port for metrics cannot be had.
    """
    run = LiveRun(cameras, config or Config(), detector=detector, sinks=sinks, on_frame=on_frame)
    return run.run(stop or threading.Event(), on_start=on_start)


class LiveRun:
    """One live run; made for one :meth:`run`.

    Args:
        cameras: As for :func:`run_live`, which says the rest too.
        config: The configuration.
        detector: See there.
        sinks: See there.
        on_frame: See there.
    """

    def __init__(
        self,
        cameras: Sequence[CameraEntry],
        config: Config,
        *,
        detector: Detector | None = None,
        sinks: Sequence[EventSink] | None = None,
        on_frame: OnFrame | None = None,
    ) -> None:
        names = [camera.name for camera in cameras]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"at least one camera is needed, and names must differ, got {names}")
        self._entries = tuple(cameras)
        self._config = config
        self._detector = detector
        self._sinks = None if sinks is None else tuple(sinks)
        self._on_frame = on_frame
        self._lanes: list[Lane] = []
        self._detect: DetectWorker | None = None
        self._loops: list[LiveLoop] = []
        self._own_sinks: tuple[EventSink, ...] = ()
        self._ladders = [Ladder(["starting"])]
        self.metrics_port: int | None = None

    def run(self, stop: threading.Event, *, on_start: Callable[[LiveRun], object] | None = None) -> LiveReport:
        """Run; see :func:`run_live`."""
        begin, live = time.monotonic(), self._config.live
        limit = live.max_latency / 1000.0
        with ExitStack() as stack:
            on_each = []
            for config in one_per_device(self._config)[: len(self._entries)]:
                rungs = Rungs(config)
                stack.callback(rungs.close)
                rungs.warm_up()
                on_each.append(rungs)
            self._ladders = [Ladder(rungs.names, max_latency=limit, spare=1, on_change=_log_step) for rungs in on_each]
            self._detect = stack.enter_context(self._detection())
            signals = [threading.Event() for _ in on_each]
            self._lanes = [
                self._lane(entry, signals[number % len(signals)], stack) for number, entry in enumerate(self._entries)
            ]
            self._loops = [
                LiveLoop(
                    self._lanes[number :: len(on_each)], rungs, self._ladders[number], ready=signals[number],
                    batch_wait=live.batch_wait / 1000.0, max_latency=limit,
                    detect=self._detect, draw=self._config.detect.draw,
                    highlights=self._config.model.highlights, on_frame=self._on_frame,
                )
                for number, rungs in enumerate(on_each)
            ]  # fmt: skip
            if live.metrics is not None:
                server = StatusServer(self.status, port=live.metrics, host=live.metrics_host)
                stack.callback(server.close)
                self.metrics_port = server.port
                log_event("metrics", f"metrics on http://{live.metrics_host}:{server.port}/metrics", port=server.port)
            stopped = self._turn(stop, on_start)
            self._close()
            detection = None if self._detect is None else self._detect.to_json()
            return make_report(
                self.status(), self._ladders, stopped=stopped, begin=begin, config=self._config, detection=detection
            )

    def status(self) -> LiveStatus:
        """What is going on now; callable from any thread while it runs."""
        sinks = {} if self._detect is None else self._detect.to_json().get("sinks", {})
        lowest = lowest_of(self._ladders)
        return LiveStatus(
            cameras=tuple(lane.status() for lane in self._lanes),
            rung=lowest.name,
            rung_index=lowest.rung,
            steps_down=sum(ladder.steps_down for ladder in self._ladders),
            steps_up=sum(ladder.steps_up for ladder in self._ladders),
            beat=min((loop.beat for loop in self._loops), default=time.monotonic()),
            sinks=sinks,
        )

    def _turn(self, stop: threading.Event, on_start: Callable[[LiveRun], object] | None) -> bool:
        """Start the cameras and work; returns whether it was stopped from outside."""
        duration = self._config.live.duration
        for lane in self._lanes:
            lane.camera.start()
            log_event("camera-start", "connecting", camera=lane.name)
        if on_start is not None:
            on_start(self)
        until = None if duration is None else time.monotonic() + float(duration)
        if len(self._loops) == 1:
            self._loops[0].run(stop, until=until)
            return stop.is_set()
        with ThreadPoolExecutor(len(self._loops), thread_name_prefix="streamlight-device") as pool:
            running = [pool.submit(_run_loop, loop, stop, until) for loop in self._loops]
            for done in running:
                done.result()
        return stop.is_set()

    def _lane(self, entry: CameraEntry, ready: threading.Event, stack: ExitStack) -> Lane:
        config, live = self._config, self._config.live
        is_file = not parse_address(entry.url).is_live
        options = CameraOptions(
            url=entry.url,
            name=entry.name,
            transport=live.transport,
            open_timeout=live.open_timeout,
            read_timeout=live.read_timeout,
            realtime=live.realtime and is_file,
            decoder_threads=config.input.decoder_threads or 1,
            max_latency=live.max_latency / 1000.0,
        )
        camera = Camera(options, on_change=_log_file if is_file else _log_camera, ready=ready)
        stack.callback(camera.close)
        patient = is_file and not live.realtime
        deliveries = deliveries_for(entry, config, patient=patient)
        for delivery in deliveries:
            stack.callback(delivery.close, CLOSE_WITHIN)  # if something fails; the orderly end is in _close
        gate = DarkGate(always=live.gate == "always")
        return Lane(camera, gate, deliveries, file=is_file, patient=patient)

    @contextmanager
    def _detection(self) -> Iterator[DetectWorker | None]:
        """The detecting thread, if anything is to be detected; closes what the configuration asked for."""
        settings = self._config.detect
        if self._detector is None and settings.model is None:
            if settings.events or settings.draw:
                raise ConfigError("--events and --draw-boxes need something that detects: --detect motion, or a model")
            yield None
            return
        with ExitStack() as stack:
            detector = self._detector
            if detector is None:
                assert settings.model is not None
                detector = load_detector(
                    settings.model, device=self._config.model.devices[0], names=settings.names,
                    threshold=settings.threshold, threads=1,
                )  # fmt: skip
                stack.callback(detector.close)
            sinks = self._sinks
            if sinks is None:
                sinks = self._own_sinks = tuple(open_sink(spec) for spec in settings.events)
                for sink in sinks:
                    stack.callback(sink.close, 0.0)
            worker = DetectWorker(Observer(detector, sinks, on=settings.pictures), interval=1.0 / settings.rate)
            stack.callback(worker.close, 2.0)
            yield worker

    def _close(self) -> None:
        """Close everything at once: cameras may hang in a time-out each, and recordings must be whole in seconds."""
        closing = [lane.camera.close for lane in self._lanes]
        closing += [
            lambda delivery=delivery: delivery.close(CLOSE_WITHIN)  # type: ignore[misc]
            for lane in self._lanes
            for delivery in lane.deliveries
        ]
        closing.append(self._close_detection)
        with ThreadPoolExecutor(max(1, len(closing)), thread_name_prefix="streamlight-close") as pool:
            for done in [pool.submit(close) for close in closing]:
                done.result()

    def _close_detection(self) -> None:
        if self._detect is not None:
            self._detect.close(CLOSE_WITHIN / 2)
        for sink in self._own_sinks:
            sink.close(CLOSE_WITHIN / 2)


def _run_loop(loop: LiveLoop, stop: threading.Event, until: float | None) -> None:
    """One device's loop among several; if it breaks down it ends the run, as the only one would."""
    try:
        loop.run(stop, until=until)
    except BaseException:
        stop.set()
        raise


def _log_file(event: CameraEvent) -> None:
    """Like :func:`_log_camera`; that a file ends is no trouble."""
    if event.fault is not None and event.fault.reason == "ended":
        log_event("camera-end", "the file is over", camera=event.camera)
    else:
        _log_camera(event)


def _log_camera(event: CameraEvent) -> None:
    texts = {"live": "live", "stalled": "no picture for a while", "offline": "offline", "connecting": "connecting"}
    text = texts[event.state]
    fields: dict[str, object] = {"state": event.state, "before": event.before}
    if event.fault is not None:
        text += f": {event.fault.message}"
        fields["reason"] = event.fault.reason
    if event.away is not None:
        text += f" again after {event.away:.1f} s"
        fields["away"] = round(event.away, 3)
    level = logging.WARNING if event.state in ("offline", "stalled") else logging.INFO
    log_event("camera-state", text, camera=event.camera, level=level, **fields)


def _log_step(change: LadderChange) -> None:
    log_event(
        "ladder",
        f"{'down' if change.down else 'up'} from '{change.before}' to '{change.after}': {change.reason}",
        level=logging.WARNING if change.down else logging.INFO,
        before=change.before,
        after=change.after,
        reason=change.reason,
    )

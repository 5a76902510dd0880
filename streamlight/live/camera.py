"""A camera: one thread that reads it, comes back after every fault, and keeps the newest frame ready."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from streamlight.errors import MediaError
from streamlight.live.address import parse_address
from streamlight.live.backoff import Backoff
from streamlight.live.camera_status import CameraEvent, CameraState, CameraStats
from streamlight.live.faults import Fault, classify, probe
from streamlight.live.mailbox import Mailbox
from streamlight.live.options import CameraOptions
from streamlight.live.session import Session
from streamlight.media import Frame, SourceInfo
from streamlight.media.interrupt import Interrupt

_LOG = logging.getLogger("streamlight.live")

STALLED_AFTER = 1.5
"""Seconds without a frame after which a camera counts as stalled; pauses at key frames are a third of it."""

_PROBE_EVERY = 0.5
_TRIALS = 8
_FOR_PEOPLE = frozenset({"auth", "not_found", "codec", "tls"})
"""Reasons that do not pass by themselves: an offline camera that comes to one of them says so."""
_CLOSING = 1.5


class Camera:
    """A live source that survives faults; a context manager.

    A thread of its own reads and decodes from :meth:`start` to :meth:`close`. It connects again whenever the stream
    ends, fails or falls silent, until :meth:`close` or ``max_attempts``. The frames of one camera have strictly
    increasing pts in 1/90000 s over all connections, and the size that the camera sends at the time (or the first
    one, with ``keep_size``). ``notes["wall_clock"]`` of a frame holds seconds since the epoch by the camera's clock,
    where the camera tells (RTSP).

    Attributes:
        name: For people, logs and metrics; no credentials.
        options: As given.
    """

    def __init__(
        self,
        options: CameraOptions,
        *,
        on_change: Callable[[CameraEvent], None] | None = None,
        ready: threading.Event | None = None,
        generator: random.Random | None = None,
    ) -> None:
        """Set the camera up; nothing is opened before :meth:`start`.

        Args:
            options: What to read, and how patiently.
            on_change: Called at every change of state, and where a camera that is offline turns out to need a person
                (wrong credentials, no such path, …), on the reading thread or on one that asks this object; it must
                be quick. What it raises is logged.
            ready: Set whenever there may be something to take, or the camera has ended. Several cameras can share
                it, so that one thread waits for all of them; who waits clears it.
            generator: Scatters the delays between attempts.

        Raises:
            ConfigError: The address cannot be right.
        """
        self.options = options
        self._address = parse_address(options.url)
        self.name = options.name or self._address.label
        self._on_change = on_change
        # A file that is not played at its own pace waits for who takes its frames; nothing of it is dropped.
        patient = not self._address.is_live and not options.realtime
        max_age = None if patient else options.max_latency
        self._mailbox = Mailbox(options.queue, block=patient, max_age=max_age, ready=ready)
        self._stop = threading.Event()
        self._session = Session(self._address, options, self._mailbox, stop=self._stop, on_frame=self._live)
        self._backoff = Backoff(options.backoff_cap, generator=generator)
        self._interrupt = Interrupt()
        self._lock = threading.Lock()
        self._state: CameraState = "connecting"
        self._since = time.monotonic()
        self._left_at: float | None = None
        self._fault: Fault | None = None
        self._attempts = self._failed = self._trials = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Camera:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to read. Once only."""
        if self._thread is not None:
            raise RuntimeError(f"camera {self.name} was started before")
        # A daemon: a system call that nothing interrupts must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"camera {self.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading; returns within two seconds. Frames that wait are dropped and counted as ``closed``.

        The camera is told, so that it keeps no session. Should a system call that cannot be interrupted (name
        resolution, a driver) hold the thread, it ends by itself later.
        """
        self._stop.set()
        self._interrupt.set()
        self._mailbox.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING)

    def take(self, timeout: float | None = None) -> Frame | None:
        """The newest frame (the oldest of those that wait, where ``queue`` is more than 1).

        Args:
            timeout: Seconds to wait for one; None waits until there is one or the camera has ended.

        Returns:
            The frame, or None: nothing came in time, or nothing will ever come (see :attr:`ended`).
        """
        frame = self._mailbox.take(timeout)
        if frame is None:
            self._check_stall()
        return frame

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more: the file is over, attempts are used up, or it was closed."""
        return self._mailbox.exhausted

    @property
    def info(self) -> SourceInfo | None:
        """The stream with size, format and colour of the latest frames; None before the first one."""
        return self._session.format.info if self._session.format is not None else None

    @property
    def state(self) -> CameraState:
        """``connecting`` until the first frame, ``live``, ``stalled`` without frames for long, or ``offline``."""
        self._check_stall()
        return self._state

    @property
    def stats(self) -> CameraStats:
        """The counters now; what is in is out, dropped or waiting, exactly."""
        self._check_stall()
        mail, counts, timeline = self._mailbox.counts(), self._session.counts, self._session.timeline
        with self._lock:
            return CameraStats(
                frames_in=mail.frames_in, frames_out=mail.frames_out, waiting=mail.waiting, dropped=mail.dropped,
                state=self._state, since=self._since, fault=self._fault, attempts=self._attempts,
                reconnects=max(0, counts.connections - 1), damaged_packets=counts.damaged_packets,
                damaged_frames=counts.damaged_frames, format_changes=counts.format_changes,
                clock_jumps=timeline.jumps, repaired_pts=timeline.repaired, rate=self._session.rate(),
            )  # fmt: skip

    def _run(self) -> None:
        """The reading thread."""
        try:
            while not self._stop.is_set():
                with self._lock:
                    self._attempts += 1
                connections = self._session.counts.connections
                fault = self._attempt()
                if self._stop.is_set() or fault is None:
                    break
                self._lost(fault, had_frames=self._session.counts.connections > connections)
                if self._gives_up(fault):
                    break
                self._wait(fault)
        finally:
            self._mailbox.end()

    def _attempt(self) -> Fault | None:
        """Connect and read until that fails; returns why."""
        # A trial connection is cheap, but its time-out too short for some lines: now and then do without it.
        self._trials = (self._trials + 1) % _TRIALS if self._fault is not None and self._fault.unreachable else 0
        if self._trials and (gone := probe(self._address)) is not None:
            return gone
        began = time.monotonic()
        try:
            with self._interrupt:
                return self._session.read()
        except MediaError as error:
            packet_at = self._session.packet_at
            options = self.options
            waited = (
                time.monotonic() - began >= options.open_timeout
                if packet_at is None
                else time.monotonic() - packet_at >= options.read_timeout
            )
            return None if self._stop.is_set() else classify(error, self._address, waited=waited)
        except Exception as error:  # a defect of ours must not end the watch
            _LOG.exception("camera %s: reading failed unexpectedly", self.name)
            return Fault("other", f"'{self._address.shown}': {type(error).__name__}")

    def _gives_up(self, fault: Fault) -> bool:
        limit = self.options.max_attempts
        return not self._address.is_live or fault.permanent or (limit is not None and self._failed >= limit)

    def _wait(self, fault: Fault) -> None:
        """Sleep before the next attempt; where the port was closed, only until it opens."""
        due = time.monotonic() + self._backoff.delay(fault.reason)
        while (left := due - time.monotonic()) > 0:
            if self._stop.wait(min(left, _PROBE_EVERY) if fault.unreachable else left):
                return
            if fault.unreachable and left > _PROBE_EVERY and probe(self._address) is None:
                return

    def _live(self) -> None:
        """There was a frame."""
        if self._state == "live":
            return
        self._backoff.succeeded()
        self._trials = 0
        self._enter("live", None)

    def _lost(self, fault: Fault, *, had_frames: bool) -> None:
        self._failed = 0 if had_frames else self._failed + 1
        with self._lock:
            before, self._fault = self._fault, fault
            news = fault.reason in _FOR_PEOPLE and (before is None or before.reason != fault.reason)
            again = news and self._state == "offline"
        self._enter("offline", fault)
        if again:
            self._tell(CameraEvent(self.name, "offline", "offline", fault))

    def _check_stall(self) -> None:
        at = self._session.frame_at
        if self._address.is_live and at is not None and time.monotonic() - at > STALLED_AFTER:
            self._enter("stalled", None, only_from="live")

    def _enter(self, state: CameraState, fault: Fault | None, *, only_from: CameraState | None = None) -> None:
        now = time.monotonic()
        with self._lock:
            before = self._state
            if before == state or only_from not in (None, before):
                return
            self._state = state
            self._since = now
            if before == "live":
                self._left_at = now
            away = now - self._left_at if state == "live" and self._left_at is not None else None
        self._tell(CameraEvent(self.name, state, before, fault, away))

    def _tell(self, event: CameraEvent) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(event)
        except Exception:
            _LOG.exception("camera %s: on_change failed", self.name)

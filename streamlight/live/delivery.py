"""Giving frames to an encoder process that may hang, fail or be slow, without ever waiting for it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from streamlight.live import faults
from streamlight.live.address import Address
from streamlight.live.backoff import Backoff
from streamlight.live.delivery_status import DeliveryEvent, DeliveryState, DeliveryStats
from streamlight.live.faults import Fault
from streamlight.live.process import ChildGone, ChildProcess
from streamlight.live.ring import FrameShape
from streamlight.media import Frame
from streamlight.media.timeline import rescale

TIME_BASE = Fraction(1, 90_000)
_GLANCE = 0.25
"""Seconds between two looks at whether the child still makes progress."""
_log = logging.getLogger("streamlight.live")


class Delivery:
    """Frames in, an encoder process out. What `Publisher` and `Recorder` have in common; use those.

    Args:
        job: For the child process: kind, target, settings.
        target: The target for people, credentials redacted.
        slots: Frames that may be on their way to the child.
        open_timeout: Seconds that opening may take.
        stall_timeout: Seconds that one frame may take.
        backoff: How long to wait before trying again.
        early: Whether frames may wait in the slots while the output is being opened.
        address: Address to knock at before opening it; None for files.
        on_change: Called with a `DeliveryEvent`, from a thread of this object; must not block.
    """

    def __init__(
        self,
        job: dict[str, Any],
        *,
        target: str,
        slots: int,
        open_timeout: float,
        stall_timeout: float,
        backoff: Backoff,
        early: bool,
        address: Address | None = None,
        on_change: Callable[[DeliveryEvent], None] | None = None,
    ) -> None:
        self.target = target
        self._job, self._slots, self._early = job, slots, early
        self._open_timeout, self._stall_timeout = open_timeout, stall_timeout
        self._backoff, self._address, self._on_change = backoff, address, on_change
        self._changed = threading.Condition()
        self._stats = DeliveryStats()
        self._dropped: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._last_source: Fraction | None = None
        self._last_pts: int | None = None
        self._session: _Session | None = None
        self._told: Fault | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=f"deliver {target}", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> DeliveryStats:
        """The counters, consistent with one another."""
        with self._changed:
            session = self._session
            waiting = 0 if session is None else session.waiting
            dropped, failed = dict(self._dropped), dict(self._faults)
            return dataclasses.replace(self._stats, waiting=waiting, dropped=dropped, faults=failed)

    def offer(self, frame: Frame, *, wait: float = 0.0) -> bool:
        """Hand over a frame. Its planes are copied; it takes no longer than that.

        Args:
            frame: Times must increase from frame to frame. A frame of another size or colour begins a new stream or
                file.
            wait: Seconds to wait for room, for frames that come from a file and need not be dropped.

        Returns:
            Whether it was taken; if not, it is counted as dropped with the cause.
        """
        deadline = time.monotonic() + wait
        with self._changed:
            pts = self._stamp(frame)
            if pts is None:
                return self._drop("out_of_order")
            while (cause := self._send(frame, pts)) is not None:
                left = deadline - time.monotonic()
                if left <= 0 or self._closing.is_set() or self._is_hopeless():
                    return self._drop(cause)
                self._changed.wait(left)
            self._last_pts, self._last_source = pts, frame.seconds
            self._count_offer()
            return True

    def close(self, timeout: float = 5.0) -> None:
        """Finish what is on its way, and close the output; after ``timeout`` seconds the process is killed."""
        with self._changed:
            self._closing.set()
            if self._session is not None:
                self._session.finish()
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            if self._session is not None:
                self._session.child.kill()
        self._thread.join(1.0)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _is_hopeless(self) -> bool:
        fault = self._stats.fault
        return fault is not None and fault.permanent

    def _count_offer(self) -> None:
        """Only when it is decided what becomes of the frame, so that the account is right at every moment."""
        self._stats = dataclasses.replace(self._stats, offered=self._stats.offered + 1)

    def _drop(self, cause: str) -> bool:
        self._count_offer()
        self._dropped[cause] += 1
        return False

    def _stamp(self, frame: Frame) -> int | None:
        """The frame's time in `TIME_BASE`, later than the one before; None if it is not later in its own clock."""
        if self._last_source is not None and frame.seconds <= self._last_source:
            return None
        pts = frame.pts if frame.time_base == TIME_BASE else rescale(frame.pts, frame.time_base, Fraction(0), TIME_BASE)
        return pts if self._last_pts is None else max(pts, self._last_pts + 1)

    def _send(self, frame: Frame, pts: int) -> str | None:
        """Give the frame to the child; returns why that is not possible now."""
        if self._closing.is_set():
            return "closed"
        session = self._session
        if session is None or session.failed:
            return "offline" if self._stats.state == "offline" else "connecting"
        try:
            return session.send(frame, pts, early=self._early)
        except ChildGone:
            return "offline" if session.was_live else "connecting"
        except OSError:
            return "no_memory"

    # --- the supervising thread ---

    def _supervise(self) -> None:
        child: ChildProcess | None = None
        fault: Fault | None = None
        while not self._closing.is_set():
            fault, child = self._attempt(child, fault)
            if fault is None or self._closing.is_set():
                continue
            self._went_offline(fault)
            if child is None and not fault.permanent:
                child = self._start()  # is ready when the pause is over
            self._closing.wait(None if fault.permanent else self._backoff.delay(fault.reason))
        if child is not None:
            child.reap()
        self._enter("closed")

    def _start(self) -> ChildProcess | None:
        try:
            return ChildProcess(self._job, slots=self._slots)
        except OSError:
            return None

    def _attempt(self, child: ChildProcess | None, last: Fault | None) -> tuple[Fault | None, ChildProcess | None]:
        """Deliver for as long as it goes well; returns what ended it, and the child if it is unused."""
        child = child or self._start()
        if child is None:
            return Fault("other", f"no process for '{self.target}' can be started; is there memory?"), None
        away = last is not None and (last.reason == "refused" or last.unreachable)
        if away and self._address is not None:
            # A server that is away is knocked at, with the child ready for the moment it is back.
            knock = faults.probe(self._address)
            if knock is not None:
                return knock, child
        return self._attend(child), None

    def _went_offline(self, fault: Fault) -> None:
        with self._changed:
            self._faults[fault.reason] += 1
            lost = self._stats.state == "live"
            self._stats = dataclasses.replace(self._stats, fault=fault, restarts=self._stats.restarts + lost)
        if fault != self._told:
            self._told = fault
            _log.warning("%s: offline: %s", self.target, fault.message)
        self._enter("offline", fault=fault)

    def _attend(self, child: ChildProcess) -> Fault | None:
        """Watch over one child until it ends; returns the fault, or None after an orderly end."""
        session = _Session(child, self._slots)
        with self._changed:
            self._session = session
            if self._closing.is_set():
                session.finish()
            self._changed.notify_all()
        fault: Fault | None = None
        while (messages := child.receive(_GLANCE)) is not None:  # also after a fault: it may have a file to save
            for message in messages:
                fault = self._take(session, message) or fault
            stalled = self._check_progress(session)
            fault = fault or stalled
        ending = child.reap()
        with self._changed:
            lost = session.waiting
            if lost:
                self._dropped["closed" if self._closing.is_set() else "fault"] += lost
            self._session = None
            self._changed.notify_all()
        if fault is None and not session.closed:
            fault = Fault("other", f"'{self.target}': the encoder process {ending or 'ended unasked'}")
        return fault

    def _check_progress(self, session: _Session) -> Fault | None:
        with self._changed:
            since = session.busy_since
            opening = session.opening
        limit = self._open_timeout if opening else self._stall_timeout
        if since is None or time.monotonic() - since <= limit:
            return None
        session.child.kill()
        what = "could not be opened" if opening else "took no picture"
        return Fault("timeout", f"'{self.target}' {what} for {limit:g} s")

    def _take(self, session: _Session, message: dict[str, Any]) -> Fault | None:
        """Act on one message of the child."""
        kind = message["say"]
        if kind == "fault":
            with self._changed:
                session.failed = True
            return Fault(**{name: value for name, value in message.items() if name != "say"})
        with self._changed:
            if kind in ("done", "closed"):
                written, size = session.count(message)
                self._stats = dataclasses.replace(
                    self._stats, written=self._stats.written + written, bytes=self._stats.bytes + size
                )
                if written:
                    self._backoff.succeeded()
            session.progress(message)
            self._changed.notify_all()
        if kind == "opening":
            self._enter("connecting")
        elif kind == "live":
            self._went_live(message)
        elif kind in ("file", "recovered"):
            self._got_file(kind, message["path"])
        return None

    def _went_live(self, message: dict[str, Any]) -> None:
        with self._changed:
            self._stats = dataclasses.replace(
                self._stats,
                fault=None,
                encoder=message["encoder"],
                losses=tuple(message["losses"]),
                fallbacks=tuple(message["fallbacks"]),
            )
        self._enter("live")

    def _got_file(self, kind: Literal["file", "recovered"], path: str) -> None:
        with self._changed:
            stats = self._stats
            if kind == "file":
                self._stats = dataclasses.replace(stats, files=stats.files + 1, last_file=path)
            else:
                self._stats = dataclasses.replace(stats, recovered=stats.recovered + 1)
            state = self._stats.state
        self._tell(DeliveryEvent(self.target, kind, state, path=path))

    def _enter(self, state: DeliveryState, *, fault: Fault | None = None) -> None:
        with self._changed:
            before = self._stats.state
            self._stats = dataclasses.replace(self._stats, state=state)
            self._changed.notify_all()
        if before != state:
            if state == "live":
                self._told = None
                _log.info("%s: live", self.target)
            self._tell(DeliveryEvent(self.target, "state", state, fault=fault))

    def _tell(self, event: DeliveryEvent) -> None:
        if self._on_change is not None:
            with contextlib.suppress(Exception):  # a listener's mistake must not end the delivery
                self._on_change(event)


class _Session:
    """One child process: which slots are free, and what is on its way. Guarded by the delivery's lock."""

    def __init__(self, child: ChildProcess, slots: int) -> None:
        self.child = child
        self.was_live = False
        self.failed = False
        self.closed = False
        self.opening = False
        self.busy_since: float | None = None
        self._slots = slots
        self._free = deque(range(slots))
        self._shape: FrameShape | None = None
        self._accepted = 0
        self._written = 0
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """Frames taken and not written yet."""
        return self._accepted - self._written

    def send(self, frame: Frame, pts: int, *, early: bool) -> str | None:
        """Copy the frame into a free slot and announce it; returns why it cannot be taken now.

        Raises:
            ChildGone: The child does not listen any more.
        """
        shape = FrameShape.of(frame)
        if shape != self._shape:
            if len(self._free) < self._slots:
                return "new_size"
            self._open(shape)
        if self.opening and not early:
            return "connecting" if not self.was_live else "new_size"
        if not self._free:
            return "connecting" if self.opening else "slow"
        slot = self._free[0]
        for target, plane in zip(self.child.ring.planes(slot), frame.planes, strict=True):
            np.copyto(target, plane)
        duration = rescale(max(0, frame.duration), frame.time_base, Fraction(0), TIME_BASE)
        wall_clock = float(frame.notes.get("wall_clock") or time.time())
        self.child.send({"do": "frame", "slot": slot, "pts": pts, "duration": duration, "wall_clock": wall_clock})
        self._free.popleft()
        self._accepted += 1
        self._begin_waiting()
        return None

    def finish(self) -> None:
        """Ask the child to finish and end."""
        with contextlib.suppress(ChildGone):
            self.child.send({"do": "close"})
        self._begin_waiting()

    def count(self, message: dict[str, Any]) -> tuple[int, int]:
        """Frames and bytes written since the last message."""
        written, size = message["written"] - self._written, message["bytes"] - self._bytes
        self._written, self._bytes = message["written"], message["bytes"]
        return written, size

    def progress(self, message: dict[str, Any]) -> None:
        """Note what a message says about slots and states."""
        kind = message["say"]
        if kind == "done":
            self._free.append(message["slot"])
        elif kind == "opened":
            self.opening = False
            self.was_live = True
        elif kind == "closed":
            self.closed = True
        busy = self.opening or len(self._free) < self._slots
        self.busy_since = time.monotonic() if busy else None

    def _open(self, shape: FrameShape) -> None:
        self.child.open(shape)
        self._shape = shape
        self.opening = True
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        if self.busy_since is None:
            self.busy_since = time.monotonic()

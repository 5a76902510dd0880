"""A live run in another process, seen from outside: when which frame was handed over, and what the process held."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from streamlight.errors import MediaError

_START = 120.0
_STOP = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame that was handed over.

    Attributes:
        at: When, ``time.monotonic()``.
        pts: Its timestamp, 1/90000 s.
        size: Its width and height.
        latency: Seconds since its packet was read.
        age: Seconds since the camera took it, by the camera's clock (the same machine's here); None if it did not say.
    """

    at: float
    pts: int
    size: tuple[int, int]
    latency: float
    age: float | None = None


@dataclass(slots=True)
class Account:
    """Everything a live run has told so far.

    Attributes:
        frames: By camera, in the order they were handed over.
        looked: By camera, when the detector saw a picture.
        usage: Samples of the process's resources, see :func:`streamlight.evaluation.live_worker.usage`.
        report: The run's own account once it is over.
    """

    frames: dict[str, list[Seen]] = field(default_factory=dict)
    looked: dict[str, list[float]] = field(default_factory=dict)
    usage: list[dict[str, float]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def between(self, camera: str, begin: float, end: float) -> list[Seen]:
        """The frames of a camera that were handed over from ``begin`` to ``end``."""
        return [frame for frame in self.frames.get(camera, ()) if begin <= frame.at < end]

    def alive_since(self, camera: str, after: float, *, rate: float, size: tuple[int, int] | None = None) -> float:
        """When a camera was live again: its first frame after ``after`` that others follow at half its rate or more.

        Args:
            camera: Its name.
            after: Moment from which frames count.
            rate: Frames a second it sends.
            size: Frames of this size only; None for any.

        Returns:
            The moment; infinity if it has not been live for a second since.
        """
        times = [f.at for f in self.frames.get(camera, ()) if f.at > after and (size is None or f.size == size)]
        for index, begin in enumerate(times):
            if sum(begin < at <= begin + 1.0 for at in times[index:]) >= rate / 2:
                return begin
        return float("inf")


class LiveProcess:
    """A live run as a process; a context manager that ends it.

    Attributes:
        account: What it told so far; grows while it runs.
        errors: The last lines of its log.
    """

    def __init__(
        self,
        cameras: Sequence[Mapping[str, str]],
        *,
        values: Mapping[str, Any] | None = None,
        preset: str | None = None,
        detect: str | None = None,
    ) -> None:
        """Start it and wait until it reads its cameras.

        Args:
            cameras: Keyword arguments of :class:`streamlight.cameras.CameraEntry`: ``name``, ``url``, ``to``,
                ``record``.
            values: Options by name.
            preset: Preset they win over.
            detect: A detector, as for :func:`streamlight.detect.load_detector`.

        Raises:
            MediaError: It does not start; the message says why.
        """
        order = {
            "cameras": [dict(c) for c in cameras],
            "values": dict(values or {}),
            "preset": preset,
            "detect": detect,
        }
        self.account = Account()
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamlight.evaluation.live_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=task, daemon=True) for task in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()
        assert self._process.stdin is not None
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)  # addresses are not for the process list
            self._await("started", _START)
        except (MediaError, OSError):
            self.kill()
            raise

    def __enter__(self) -> LiveProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_for_frames(self, camera: str, count: int, *, timeout: float = 60.0) -> None:
        """Wait until so many frames of a camera were handed over since now.

        Raises:
            MediaError: They were not, in ``timeout`` seconds.
        """
        goal = len(self.account.frames.get(camera, ())) + count
        self.wait_until(
            lambda: len(self.account.frames.get(camera, ())) >= goal, f"{count} frames of {camera}", timeout
        )

    def wait_until(self, condition: Any, what: str, timeout: float) -> None:
        """Wait until ``condition()`` holds.

        Raises:
            MediaError: It did not within ``timeout`` seconds, or the process ended; ``what`` is named.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if self._process.poll() is not None:
                raise MediaError(f"the live run ended while {what} was awaited: {self._why()}")
            if time.monotonic() > deadline:
                raise MediaError(f"the live run did not come to this within {timeout:.0f} s: {what}")
            time.sleep(0.02)

    def wait_for_end(self, *, timeout: float) -> dict[str, Any]:
        """Wait until the run is over by itself; returns its report.

        Raises:
            MediaError: It is not within ``timeout`` seconds, or it failed.
        """
        self.account.report = self._await("report", timeout)
        self._process.wait(_STOP)
        return self.account.report

    def stop(self) -> tuple[dict[str, Any], float]:
        """Ask the run to end; returns its report and the seconds that it took to end.

        Raises:
            MediaError: It does not end, or it failed.
        """
        assert self._process.stdin is not None
        begin = time.monotonic()
        self._process.stdin.close()
        self.account.report = self._await("report", _STOP)
        self._process.wait(_STOP)
        return self.account.report, time.monotonic() - begin

    def kill(self) -> None:
        """End the process if it is still there."""
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def _await(self, kind: str, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            try:
                found, value = self._events.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                raise MediaError(f"the live run told no {kind} within {timeout:.0f} s") from None
            if found == kind:
                return value
            if found in ("error", "end"):
                raise MediaError(f"the live run failed: {value or self._why()}")

    def _why(self) -> str:
        return (self.errors or [f"exit code {self._process.poll()}"])[-1]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            for kind, value in json.loads(line).items():
                if kind == "frame":
                    name, at, pts, width, height, latency, age = value
                    self.account.frames.setdefault(name, []).append(Seen(at, pts, (width, height), latency, age))
                elif kind == "looked":
                    self.account.looked.setdefault(value[0], []).append(value[1])
                elif kind == "usage":
                    self.account.usage.append(value)
                else:
                    self._events.put((kind, value))
        self._events.put(("end", ""))

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.strip():
                self.errors = [*self.errors[-40:], line.strip()]

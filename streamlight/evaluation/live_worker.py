"""A live run in a process of its own, which tells what it does as it does it; :mod:`.live_process` starts it.

``python -m streamlight.evaluation.live_worker`` takes one line of JSON on stdin (see :func:`run`) and prints lines of
JSON: one for every frame handed over, every picture that the detector saw and every sample of the process's resources,
in the end one with the report or the error. All times are of the system's monotonic clock, which other processes read
too. It stops when its stdin ends.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamlight.errors import StreamlightError

if TYPE_CHECKING:
    from streamlight.detect import Detection
    from streamlight.media import Frame

_SAMPLE_EVERY = 1.0


class _Printer:
    """Prints lines from a thread of its own, so that who tells something does not wait for the pipe."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="printer", daemon=True)
        self._thread.start()

    def say(self, kind: str, value: Any) -> None:
        """Print one line soon."""
        self._lines.put(json.dumps({kind: value}))

    def close(self) -> None:
        """Print what is left."""
        self._lines.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            lines = [line]
            while not self._lines.empty():
                more = self._lines.get()
                if more is None:
                    self._lines.put(None)
                    break
                lines.append(more)
            print("\n".join(lines), flush=True)
            time.sleep(0.02)


class _Watched:
    """A detector that tells every picture it looked at."""

    def __init__(self, spec: str, printer: _Printer) -> None:
        from streamlight.detect import load_detector

        self._inner, self._printer = load_detector(spec), printer
        self.names = self._inner.names

    def __call__(self, frame: Frame, *, camera: str = "") -> list[Detection]:
        """Detect, then tell."""
        found = self._inner(frame, camera=camera)
        self._printer.say("looked", [camera.rpartition("/")[0], time.monotonic()])
        return found

    def describe(self) -> dict[str, Any]:
        """As the detector says."""
        return self._inner.describe()

    def forget(self, camera: str) -> None:
        """Hand on."""
        self._inner.forget(camera)

    def close(self) -> None:
        """Close the detector."""
        self._inner.close()


def usage() -> dict[str, float]:
    """What this process holds now: ``at``, ``memory`` in bytes, ``threads``, ``files``; ``children`` memory, bytes."""
    memory, threads = _status("self")
    children = sum(_status(pid)[0] for pid in _descendants(os.getpid()))
    files = len(os.listdir("/proc/self/fd"))
    return {"at": time.monotonic(), "memory": memory, "threads": threads, "files": files, "children": children}


def _status(pid: int | str) -> tuple[int, int]:
    """Resident bytes and threads of a process; zeros if it is gone."""
    found = {"VmRSS": 0, "Threads": 0}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, rest = line.partition(":")
            if key in found:
                found[key] = int(rest.split()[0])
    except OSError:
        pass
    return found["VmRSS"] * 1024, found["Threads"]


def _descendants(pid: int) -> list[int]:
    """Process ids of the children, their children, and so on."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        children = [child for child, of in parents.items() if of == parent]
        found += children
        todo += children
    return found


def _sample(printer: _Printer, stop: threading.Event) -> None:
    while not stop.wait(_SAMPLE_EVERY):
        printer.say("usage", usage())


def _until_stdin_ends(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def run(order: dict[str, Any], printer: _Printer) -> dict[str, Any]:
    """Run, telling the printer; returns the report as plain values.

    Args:
        order: ``cameras`` as keyword arguments of :class:`streamlight.cameras.CameraEntry`, ``values`` of options,
            ``preset`` or None, and ``detect``, a detector or None.
        printer: Told what happens.
    """
    from streamlight.cameras import CameraEntry
    from streamlight.config import load_config
    from streamlight.pipelines.surveillance import run_live

    def on_frame(name: str, frame: Frame) -> None:
        now, taken = time.monotonic(), frame.notes.get("wall_clock")
        age = None if taken is None else time.time() - taken
        printer.say("frame", [name, now, frame.pts, frame.width, frame.height, now - frame.arrival, age])

    config = load_config(preset=order.get("preset"), values=order.get("values"))
    detector = _Watched(order["detect"], printer) if order.get("detect") else None
    stop = threading.Event()
    threading.Thread(target=_until_stdin_ends, args=(stop,), daemon=True).start()
    sampler = threading.Thread(target=_sample, args=(printer, stop), daemon=True)
    sampler.start()
    report = run_live(
        [CameraEntry(**camera) for camera in order["cameras"]],
        config,
        detector=detector,
        sinks=[] if detector is not None else None,
        stop=stop,
        on_frame=on_frame,
        on_start=lambda _: printer.say("started", time.monotonic()),
    )
    if detector is not None:
        detector.close()
    return report.to_dict()


def main() -> int:
    """Run and print; a known error is told, not raised."""
    printer = _Printer()
    try:
        printer.say("report", run(json.loads(sys.stdin.readline()), printer))
    except StreamlightError as error:
        printer.say("error", str(error))
        return 1
    finally:
        printer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

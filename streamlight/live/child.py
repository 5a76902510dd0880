"""The process that encodes and writes, so that nothing a server or a disk does can hold up the rest.

Opening a network output keeps the GIL for as long as the server likes. Here that stops nobody else, and a process that
hangs can be killed, which a thread cannot.

It is told what to do by lines of JSON on its standard input and answers the same way; frames come through shared
memory (`ring.FrameRing`). The address travels in the first line, never among the arguments that every user can read.
The end of its input, also when the parent was killed, makes it finish what is open; signals meant for the parent's
whole group (Ctrl-C, a service manager's SIGTERM) therefore do not stop it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import sys
import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from streamlight.errors import DeviceError, MediaError, StreamlightError

if TYPE_CHECKING:
    from streamlight.live.outputs import Output, Say
    from streamlight.live.ring import FrameShape

_LAST_WORDS = 10
"""Seconds to finish in when the parent is gone; then the kernel ends this process, whatever it hangs in."""


def main() -> None:
    """Run until the input ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # libraries that print do not disturb the conversation
    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    job = json.loads(sys.stdin.buffer.readline() or "null")
    if job is None:
        return
    threading.Thread(target=_listen, args=(commands,), daemon=True).start()
    status = Worker(job, answers).run(commands)
    os._exit(status)  # the interpreter would wait for the thread that listens


def _listen(commands: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    try:
        for line in sys.stdin.buffer:
            commands.put(json.loads(line))
    finally:  # also when the parent was killed in the middle of a line
        if hasattr(signal, "alarm"):
            signal.alarm(_LAST_WORDS)
        commands.put(None)


class Worker:
    """Does one job: takes frames from the ring, and has them encoded and written."""

    def __init__(self, job: dict[str, Any], answers: BinaryIO) -> None:
        from streamlight.live.ring import FrameRing

        self._job, self._answers = job, answers
        self._ring = FrameRing(job["slots"], descriptor=job["descriptor"])
        self._output = _make_output(job, self.say)
        self._shape: FrameShape | None = None
        self._index = 0

    def say(self, what: str, **values: Any) -> None:
        """Tell the parent; nobody may be listening any more."""
        with contextlib.suppress(OSError):
            self._answers.write(json.dumps({"say": what, **values}).encode() + b"\n")

    def run(self, commands: queue.SimpleQueue[dict[str, Any] | None]) -> int:
        """Work off commands until there are no more; returns the exit status."""
        self.say("ready")
        try:
            while (command := commands.get()) is not None and command["do"] != "close":
                self._obey(command)
            self._output.close()
        except Exception as error:  # whatever it is, the parent must hear of it
            self._report(error)
            self._output.abandon()
            return 1
        self.say("closed", written=self._output.packets, bytes=self._output.bytes)
        return 0

    def _obey(self, command: dict[str, Any]) -> None:
        from streamlight.live.encoding import TIME_BASE
        from streamlight.live.ring import FrameShape
        from streamlight.media.frame import Frame

        if command["do"] == "open":
            self.say("opening")
            self._shape = FrameShape.from_json(command["shape"])
            self._ring.lay_out(self._shape)
            self._output.open(self._shape)
            self.say("opened")
            return
        assert self._shape is not None  # the parent opens before it sends
        slot = command["slot"]
        frame = Frame(
            self._ring.planes(slot),
            self._shape.color,
            command["pts"],
            TIME_BASE,
            command["duration"],
            index=self._index,
        )
        self._index += 1
        self._output.write(frame, command["wall_clock"])
        self.say("done", slot=slot, written=self._output.packets, bytes=self._output.bytes)

    def _report(self, error: Exception) -> None:
        import av

        from streamlight.live.address import parse_address
        from streamlight.live.faults import classify
        from streamlight.media.urls import redact

        target = self._job["target"]
        address = parse_address(target) if self._job["kind"] == "publish" and "://" in target else None
        if isinstance(error, StreamlightError) and not isinstance(error, MediaError):
            # Settings and devices do not get better by trying again.
            reason = "codec" if isinstance(error, DeviceError) else "other"
            self.say("fault", reason=reason, message=redact(error), permanent=True, unreachable=False)
        elif address is not None and isinstance(error, av.error.ProtocolNotFoundError):
            scheme = address.url.partition("://")[0]
            message = f"'{address.shown}': this build of FFmpeg cannot publish to {scheme} addresses; use rtsp or rtmp"
            self.say("fault", reason="other", message=message, permanent=True, unreachable=False)
        elif address is not None and isinstance(error, (OSError, av.error.FFmpegError)):
            fault = classify(error, address)
            self.say("fault", **dataclasses.asdict(fault))
        else:
            self.say(
                "fault",
                reason="other",
                message=redact(error) or type(error).__name__,
                permanent=False,
                unreachable=False,
            )


def _make_output(job: dict[str, Any], say: Say) -> Output:
    """The output that a job of `delivery.Delivery` describes."""
    from streamlight.live.encoding import LiveEncodeSettings
    from streamlight.live.outputs import Nominal, StreamOutput
    from streamlight.live.recording import RecordingOutput

    encode = LiveEncodeSettings(**job["encode"])
    nominal = Nominal(*(Fraction(value) if value else None for value in (job["sample_aspect"], job["rate"])))
    if job["kind"] == "record":
        return RecordingOutput(job["target"], encode, nominal, say, **job["options"])
    return StreamOutput(job["target"], encode, nominal, say, **job["options"])

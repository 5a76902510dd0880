"""The parent's end of a child process: start it, talk to it, get rid of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

from streamlight.live.ring import FrameRing, FrameShape


class ChildGone(OSError):
    """The child does not listen any more, or has no room for another line."""


class ChildProcess:
    """An encoder process with its ring of frames. All methods return at once, but for :meth:`receive`'s time-out.

    Args:
        job: What it is to do, see `child.Worker`; may hold credentials.
        slots: Frames that may be on their way.
    """

    def __init__(self, job: dict[str, Any], *, slots: int) -> None:
        self.ring = FrameRing(slots)
        self._unread = b""
        command = [sys.executable, "-P", "-c", "from streamlight.live.child import main; main()"]
        try:
            # A session of its own: Ctrl-C in a terminal is for the parent, which then closes this properly.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                pass_fds=(self.ring.descriptor,),
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            )
        except OSError:
            self.ring.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._poll = select.poll()  # unlike select(), for descriptors of any number
        self._poll.register(self._from, select.POLLIN)
        # With few frames on their way the pipe never fills up, unless the child is stopped.
        os.set_blocking(self._to.fileno(), False)
        try:
            self.send(job | {"slots": slots, "descriptor": self.ring.descriptor})
        except ChildGone:
            self.reap()
            raise

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def open(self, shape: FrameShape) -> None:
        """Begin an output for frames of this shape. No slot may be in use.

        Raises:
            ChildGone: It does not listen any more.
            OSError: There is no memory for the frames.
        """
        self.ring.lay_out(shape)
        self.send({"do": "open", "shape": shape.to_json()})

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            ChildGone: It does not listen any more.
        """
        line = json.dumps(message).encode() + b"\n"
        try:
            taken = self._to.write(line) == len(line)
        except (OSError, ValueError) as error:
            raise ChildGone from error
        if not taken:
            raise ChildGone

    def receive(self, timeout: float) -> list[dict[str, Any]] | None:
        """Wait for messages, at most ``timeout`` seconds; None when the child has ended."""
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return []
        data = os.read(self._from.fileno(), 1 << 16)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def finish_input(self) -> None:
        """Let it know that there is nothing more to come; it then finishes and ends."""
        with contextlib.suppress(OSError):
            self._to.close()

    def kill(self) -> None:
        """End it now, whatever it is doing."""
        self._process.kill()

    def reap(self) -> str | None:
        """Clean up after it has ended or was killed; returns how it ended if that was not orderly."""
        self.finish_input()
        self._from.close()
        self._process.kill()
        status = self._process.wait()
        self.ring.close()
        if status == 0:
            return None
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        return f"ended with status {status}"

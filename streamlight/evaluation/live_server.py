"""A stand-in for cameras and for a media server, on loopback, that can be killed, frozen and restarted.

:class:`RtspServer` runs GStreamer's RTSP server in the system's Python (Debian: ``python3-gi``,
``gir1.2-gst-rtsp-server-1.0``, ``gstreamer1.0-plugins-good``, ``-bad`` and ``-ugly``). It serves PLAY, as a camera
does, and accepts RECORD, as a media server does. ``streamlight bench live`` and the tests of live work measure on it.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from streamlight.errors import DeviceError

SCRIPT = Path(__file__).with_name("live_gst_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"
_READY = 60.0
_ANSWER = 20.0


@functools.cache
def why_no_rtsp_server() -> str:
    """What is missing for :class:`RtspServer` on this machine; empty if nothing is."""
    if shutil.which(SYSTEM_PYTHON) is None:
        return f"there is no {SYSTEM_PYTHON}"
    try:
        run = subprocess.run([SYSTEM_PYTHON, SCRIPT, "--check"], capture_output=True, text=True, timeout=_READY)
    except subprocess.TimeoutExpired:
        return f"{SYSTEM_PYTHON} took longer than {_READY:.0f} s to load GStreamer"
    return "" if run.returncode == 0 else (run.stderr.strip().splitlines() or ["GStreamer does not start"])[-1]


def has_rtsp_server() -> bool:
    """Whether :class:`RtspServer` can run here."""
    return not why_no_rtsp_server()


class RtspServer:
    """One RTSP server process on 127.0.0.1. A context manager: entering starts it, leaving stops it.

    Every method may be called from any thread, one at a time. The process ends with the one that started it, however
    that ends, also while it is frozen.

    Attributes:
        port: TCP port in use; kept over :meth:`restart`. 0 before the first start if the system is to choose.
        size: Width and height of the synthetic pictures that are sent.
        source: What is sent, as given.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        source: str | os.PathLike[str] = "testsrc",
        size: tuple[int, int] = (320, 240),
        rate: int | None = None,
        pattern: str = "ball",
        audio: bool = False,
        mounts: Sequence[str] = ("camera",),
        record: Sequence[str] = ("enhanced",),
        record_to: str | os.PathLike[str] | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        """Nothing runs before :meth:`start`.

        Args:
            port: TCP port; 0 lets the system choose.
            source: A file with H.264 video, sent round and round at its own pace with timestamps that go on; or
                ``"testsrc"``, four seconds of a synthetic picture with a key frame every second, coded at the start.
            size: Width and height of ``"testsrc"``, pixels, even.
            rate: Frames a second; None for 15 of ``"testsrc"`` and for the pace that a file has by itself.
            pattern: Picture of ``"testsrc"``, a pattern of GStreamer's ``videotestsrc``: ``"ball"`` is dark with one
                bright thing that moves, ``"smpte"`` is bright, ``"snow"`` is noise.
            audio: Whether each camera also sends G.711 sound.
            mounts: Names of the cameras; ``rtsp://127.0.0.1:port/NAME``. All send the same.
            record: Names that accept a stream (ANNOUNCE, RECORD).
            record_to: Folder where accepted streams are kept, each session in a file of its own (MPEG-TS, readable at
                any time); None counts frames only.
            credentials: User and password asked for, for everything; None asks for none.
        """
        self.port = port
        self.size = size
        self.source = os.fspath(source)
        self._camera = {"rate": rate, "pattern": pattern, "audio": audio}
        self._mounts, self._record = tuple(mounts), tuple(record)
        self._record_to = None if record_to is None else os.fspath(record_to)
        self._credentials = credentials
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._frozen = False
        self._began = 0.0

    def __enter__(self) -> RtspServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    def url(self, mount: str = "camera", *, credentials: tuple[str, str] | None = None) -> str:
        """Address of a mount, with the credentials asked for, or others instead."""
        found = credentials or self._credentials
        user = f"{found[0]}:{found[1]}@" if found else ""
        return f"rtsp://{user}127.0.0.1:{self.port}/{mount}"

    def start(self, *, first_timestamp: float = 0.0) -> RtspServer:
        """Start the server and wait until it accepts connections.

        Args:
            first_timestamp: Seconds at which the media clock of every session begins.

        Raises:
            DeviceError: GStreamer is missing, or the server did not start.
        """
        if self.running:
            raise DeviceError(f"the RTSP server on port {self.port} is already running")
        if missing := why_no_rtsp_server():
            raise DeviceError(
                f"no RTSP server to rehearse with: {missing}; on Debian install python3-gi gir1.2-gst-rtsp-server-1.0 "
                "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
            )
        # A process group of its own in the same session: if its parent dies while it is stopped, the kernel continues
        # it and hangs it up; the end of its stdin does the same where it is running.
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
            env={"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), "GST_DEBUG": "0", "OMP_NUM_THREADS": "1"},
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()
        camera = self._camera | {"source": self.source, "size": self.size, "first_timestamp": first_timestamp}
        order = {
            "port": self.port,
            "cameras": dict.fromkeys(self._mounts, camera),
            "record": self._record,
            "record_to": self._record_to,
            "credentials": self._credentials,
        }
        try:
            self.port = int(self._ask(order, _READY)["port"])
        except DeviceError:
            self.kill()
            raise
        self._began = time.monotonic()
        return self

    def stop(self) -> None:
        """End the process; nothing happens if it does not run."""
        self.kill()

    def kill(self) -> None:
        """Kill the process (SIGKILL), as when a camera loses power; its connections are closed by the system."""
        process, self._process, self._frozen = self._process, None, False
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def freeze(self) -> None:
        """Stop the process in its tracks (SIGSTOP): connections stay, nothing is answered, new ones are silent."""
        pid = self._signal(signal.SIGSTOP)
        self._frozen = True
        # Stopped in fact, not only told to: else it might miss the end of its parent.
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self._signal(signal.SIGCONT)
        self._frozen = False

    def restart(
        self,
        *,
        source: str | os.PathLike[str] | None = None,
        size: tuple[int, int] | None = None,
        timestamps_from_zero: bool = True,
    ) -> None:
        """Kill the server and start it again on the same port.

        Args:
            source: Another file from now on; None keeps it.
            size: Another size of ``"testsrc"`` from now on; None keeps it.
            timestamps_from_zero: Whether the media clock begins at zero, as of a camera that lost power, or goes on.
        """
        elapsed = time.monotonic() - self._began
        self.kill()
        self.source = self.source if source is None else os.fspath(source)
        self.size = size or self.size
        self.start(first_timestamp=0.0 if timestamps_from_zero else elapsed)

    def kick(self) -> None:
        """Close all connections in good order; new ones are accepted."""
        self._ask({"do": "kick"})

    def change_size(self, size: tuple[int, int], *, mount: str = "camera") -> None:
        """Send pictures of another size from the next key frame on, within the running sessions too."""
        self._ask({"do": "change", "mount": mount, "size": size})
        self.size = size

    def jump(self, seconds: float = 0.0, *, mount: str = "camera") -> None:
        """Set the media clock of the running sessions, by default back to zero."""
        self._ask({"do": "shift", "mount": mount, "seconds": seconds})

    def pause(self, seconds: float, *, mount: str = "camera") -> None:
        """Send no picture for so long, then all that are due at once; the connection goes on."""
        self._ask({"do": "pause", "mount": mount, "seconds": seconds})

    def status(self) -> dict[str, Any]:
        """What happened in the present process.

        ``connected``: connections so far; ``cameras``: for each mount ``sent`` pictures and ``playing``, whether it is
        being watched (all viewers share one stream); ``record``: for each accepting mount ``sessions``, ``open`` ones,
        RTP ``packets``, ``frames``, ``keys`` among them, ``backwards`` (RTP timestamps of frames that do not increase
        within a session), ``size`` of the last picture, ``quiet`` seconds since it, and ``files``.
        """
        return self._ask({"do": "status"})

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], *, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until the status meets a condition, and return it.

        Raises:
            TimeoutError: It did not within ``timeout`` seconds; the message holds the last status.
        """
        deadline = time.monotonic() + timeout
        while not condition(found := self.status()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the RTSP server's status did not become what was awaited: {found}")
            time.sleep(0.02)
        return found

    def _signal(self, number: int) -> int:
        pid = self.pid
        if pid is None:
            raise DeviceError("the RTSP server is not running")
        os.kill(pid, number)
        return pid

    def _ask(self, request: dict[str, Any], timeout: float = _ANSWER) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or self._frozen:
            raise DeviceError("the RTSP server does not answer: it is not running, or frozen")
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = self._lines.get(timeout=timeout)
        except (OSError, queue.Empty) as error:
            raise DeviceError(f"the RTSP server does not answer within {timeout:.0f} s") from error
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise DeviceError(f"the RTSP server refused: {answer['error']}")
        return answer

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
        assert process.stdout is not None
        with suppress(OSError, ValueError):  # closed while reading
            for line in process.stdout:
                lines.put(line)
        lines.put("")

"""The other end of a stream in a process of its own, made of PyAV alone.

Two processes, because PyAV holds the interpreter while it opens a network output. As a script it is the process;
imported, it gives :class:`PyavPeer`, which runs that.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

REPO = Path(__file__).resolve().parents[2]
MUXERS = {"rtsp": "rtsp", "rtmp": "flv", "tcp": "mpegts"}
LISTENING: dict[str, dict[str, str]] = {
    "rtsp": {"rtsp_flags": "listen", "listen_timeout": "30"},
    "rtmp": {"listen": "1", "timeout": "30"},
    "tcp": {},
}
IN_ADDRESS = {"tcp": "?listen=1"}
"""PyAV hands no options to the protocol of an output; this one reads them from its address as well."""
PATHS = {"rtsp": "/live/stream", "rtmp": "/live/stream"}
Protocol = Literal["rtsp", "rtmp", "tcp"]


class PyavPeer:
    """A process that takes a published stream (``role="listen"``) or publishes one (``role="publish"``).

    A listener takes one stream: publish to :attr:`url`. A publisher serves one who connects (``tcp``: the peer listens,
    read from :attr:`url`), or pushes to ``url`` given (``rtsp``, ``rtmp``: somebody must listen there). The wheel of
    PyAV 18.1 has no SRT.
    """

    def __init__(
        self,
        role: Literal["listen", "publish"],
        *,
        protocol: Protocol = "rtsp",
        url: str | None = None,
        size: tuple[int, int] = (64, 48),
        rate: int = 15,
        frames: int = 10_000,
        first_pts: int = 0,
    ) -> None:
        self.url = url or f"{protocol}://127.0.0.1:{_free_port()}{PATHS.get(protocol, '')}"
        order = {
            "role": role,
            "protocol": protocol,
            "url": self.url,
            "listen": url is None,
            "size": size,
            "rate": rate,
            "frames": frames,
            "first_pts": first_pts,
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
            cwd=REPO,
        )
        self.seen: list[tuple[int, bool]] = []
        """As (pts, key frame), what a listener has received so far."""
        self.size: tuple[int, int] | None = None
        """Picture size that a listener was told."""
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if self._lines.get(timeout=60).get("ready") is None:
            raise RuntimeError("the peer did not start")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def wait_for(self, count: int, *, timeout: float = 30.0) -> None:
        """Wait until a listener has received so many packets."""
        deadline = time.monotonic() + timeout
        while len(self.seen) < count:
            if time.monotonic() > deadline or not self.running:
                raise TimeoutError(f"the peer received {len(self.seen)} of {count} packets")
            time.sleep(0.02)

    def wait(self, *, timeout: float = 30.0) -> int:
        """Wait until the peer has ended by itself."""
        return self._process.wait(timeout)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "pts" in message:
                self.seen.append((message["pts"], message["key"]))
            elif "size" in message:
                self.size = tuple(message["size"])
            else:
                self._lines.put(message)
        self._lines.put({})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def _listen(order: dict[str, Any]) -> None:
    import av

    address = order["url"] + IN_ADDRESS.get(order["protocol"], "")
    with av.open(address, options=LISTENING[order["protocol"]], timeout=(30, 30)) as source:
        video = source.streams.video[0]
        _say(size=[video.width, video.height])
        for packet in source.demux(video):
            if packet.size:
                _say(pts=packet.pts, key=packet.is_keyframe)


def _publish(order: dict[str, Any]) -> None:
    import av

    from tests.clips import dark_picture

    address = order["url"] + (IN_ADDRESS[order["protocol"]] if order["listen"] else "")
    rate, size = order["rate"], order["size"]
    pictures = [dark_picture(index, *size) for index in range(rate)]
    with av.open(address, "w", format=MUXERS[order["protocol"]]) as out:
        video: Any = out.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.gop_size = rate
        video.options = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1"}
        begun = time.monotonic()
        for index in range(order["frames"]):
            frame = av.VideoFrame.from_ndarray(pictures[index % rate], format="yuv420p")
            frame.pts, frame.time_base = order["first_pts"] + index, Fraction(1, rate)
            out.mux(video.encode(frame))
            time.sleep(max(begun + (index + 1) / rate - time.monotonic(), 0))
        out.mux(video.encode(None))


def main(text: str) -> int:
    sys.path.insert(0, str(REPO))
    order = json.loads(text)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    import av

    av.logging.set_level(av.logging.FATAL)
    _say(ready=True)
    try:
        {"listen": _listen, "publish": _publish}[order["role"]](order)
    except av.error.FFmpegError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

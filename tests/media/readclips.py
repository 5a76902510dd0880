"""Makers of small clips for the reading tests, and independent readers to compare with."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamlight.media import Frame, Position, open_source

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None,
    reason="needs ffmpeg and ffprobe of the distribution",
)


def ffmpeg(out: Path, *args: str) -> Path:
    """Run ffmpeg with the given arguments and the output path behind them."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *args, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return out


def moving(seconds: float = 1, rate: str = "25", size: str = "64x48", source: str = "testsrc") -> list[str]:
    """Arguments of a moving test picture."""
    return ["-f", "lavfi", "-i", f"{source}{':' if '=' in source else '='}s={size}:r={rate}:d={seconds}"]


X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


def ffprobe_frames(path: Path, entries: str = "best_effort_timestamp") -> list[dict]:
    """The frames of the first video stream as ffprobe of the distribution sees them."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_frames", "-show_entries", f"frame={entries}"]
    out = subprocess.run([*command, "-of", "json", str(path)], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(out.stdout)["frames"]


def packet_times(path: Path, stream: int = 0) -> list[int]:
    """Sorted pts of the packets of a stream, read without decoding."""
    with av.open(str(path)) as container:
        return sorted(p.pts for p in container.demux(container.streams[stream]) if p.size)


def read(path: Path, **kwargs: object) -> list[Frame]:
    """All frames of a file; planes copied, so that the decoder can reuse its buffers."""
    with open_source(path, **kwargs) as source:  # type: ignore[arg-type]
        return [keep(frame) for frame in source.frames()]


def keep(frame: Frame) -> Frame:
    """The frame with planes of its own."""
    frame.planes = tuple(plane.copy() for plane in frame.planes)
    frame.origin = None
    return frame


def digest(frame: Frame) -> str:
    """Fingerprint of the pixels."""
    return hashlib.sha1(b"".join(np.ascontiguousarray(p).tobytes() for p in frame.planes)).hexdigest()


def identity(frames: list[Frame]) -> list[tuple[int, int, str]]:
    """What must be the same in two runs: index, pts and pixels of every frame."""
    return [(frame.index, frame.pts, digest(frame)) for frame in frames]


def position(frame: Frame) -> Position:
    """The position to resume behind a frame."""
    return Position(frame.index, frame.pts)


def write_luma(
    path: Path,
    pictures: list[tuple[int, np.ndarray]],
    *,
    codec: str = "ffv1",
    pix_fmt: str = "yuv420p",
    time_base: Fraction = Fraction(1, 1000),
    tags: tuple[int, int, int, int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write (pts, plane values) with PyAV. Arrays are ``(H, W)`` luma; chroma is set to the middle.

    ``tags`` are matrix, range, primaries and transfer as H.273 code points.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        height, width = pictures[0][1].shape
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        if tags:
            context = stream.codec_context
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        for pts, luma in pictures:
            frame = av.VideoFrame(width, height, pix_fmt)
            bits = frame.format.components[0].bits
            dtype = np.dtype(np.uint8 if bits == 8 else "<u2")
            for number, plane in enumerate(frame.planes):
                rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
                rows[:] = 1 << (bits - 1)
                if number == 0:
                    rows[:, :width] = luma
            frame.pts, frame.time_base = pts, time_base
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path

"""Frames, sources and readings for the tests of writing."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from streamlight.media.encode import EncodeSettings, plan_encoder
from streamlight.media.frame import ColorSpec, Frame
from streamlight.media.mux import join
from streamlight.media.segments import SegmentInfo, SegmentWriter

BT709 = (1, 1, 1, 1)


def gradient(color: ColorSpec, width: int, height: int, seed: int) -> tuple[np.ndarray, ...]:
    """Planes with moving content and some noise, so that encoders reorder and packets differ."""
    rng = np.random.default_rng(seed)
    top = (1 << color.bit_depth) - 1
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2) + seed * 7
    luma = (ramp % 200 + 20) * (top // 255 or 1) + rng.integers(0, 4, (height, width))
    planes = [luma.astype(color.dtype)]
    if color.chroma != "400":
        sx, sy = color.chroma_shift
        shape = ((height + (1 << sy) - 1) >> sy, (width + (1 << sx) - 1) >> sx)
        for sign in (1, -1):
            column = np.linspace(-30, 30, shape[1]) * sign
            planes.append((np.broadcast_to(128 + column, shape) * (top / 255)).astype(color.dtype))
    return tuple(planes)


def make_frames(
    durations: list[int],
    *,
    time_base: Fraction,
    start: int = 0,
    width: int = 64,
    height: int = 48,
    color: ColorSpec | None = None,
) -> list[Frame]:
    """One frame per duration; each lasts exactly until the next."""
    color = color or ColorSpec()
    frames, pts = [], start
    for index, duration in enumerate(durations):
        planes = gradient(color, width, height, index)
        frames.append(Frame(planes, color, pts=pts, time_base=time_base, duration=duration, index=index))
        pts += duration
    return frames


def constant(
    count: int, *, rate: Fraction = Fraction(25), time_base: Fraction = Fraction(1, 90000), **more
) -> list[Frame]:
    step = 1 / rate / time_base
    assert step.denominator == 1
    return make_frames([int(step)] * count, time_base=time_base, **more)


def write_segments(
    folder: Path, frames: list[Frame], *, container: str, settings: EncodeSettings | None = None, size: int = 10, **more
) -> list[SegmentInfo]:
    folder.mkdir(exist_ok=True)
    plan = plan_encoder(settings or EncodeSettings(), frames[0], container=container, **more)
    infos = []
    for start in range(0, len(frames), size):
        with SegmentWriter(folder / f"{start:06d}.seg", plan) as writer:
            for frame in frames[start : start + size]:
                writer.write(frame)
            infos.append(writer.close())
    return infos


def export(
    target: Path,
    frames: list[Frame],
    source: Path | None = None,
    *,
    settings: EncodeSettings | None = None,
    size: int = 10,
    plan: dict | None = None,
    **more,
):
    """Frames to a finished file; returns its report."""
    segments = write_segments(
        target.parent / "segments", frames, container=target.name, settings=settings, size=size, **(plan or {})
    )
    return join(segments, source, target, **more)


def ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def ffprobe(path: Path, *arguments: str) -> dict:
    command = ["ffprobe", "-v", "error", "-of", "json", *arguments, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def packet_times(path: Path, stream: str = "v:0") -> list[tuple[Fraction, Fraction | None, Fraction]]:
    """(pts, dts, duration) in seconds of every packet as ffprobe sees them, in file order."""
    data = ffprobe(path, "-select_streams", stream, "-show_entries", "stream=time_base:packet=pts,dts,duration")
    base = Fraction(data["streams"][0]["time_base"])
    return [
        (int(p["pts"]) * base, int(p["dts"]) * base if "dts" in p else None, int(p.get("duration", 0)) * base)
        for p in data["packets"]
    ]


def presentation(path: Path, stream: str = "v:0") -> list[Fraction]:
    return sorted(pts for pts, _, _ in packet_times(path, stream))


def payloads(path: Path, index: int) -> list[bytes]:
    with av.open(str(path)) as file:
        return [bytes(p) for p in file.demux(file.streams[index]) if p.size]


def sound(path: Path) -> tuple[Fraction, np.ndarray]:
    """Start time and samples of the first audio stream, decoded."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    start = frames[0].pts * frames[0].time_base
    return Fraction(start), np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def increasing(values: list) -> bool:
    return all(a < b for a, b in pairwise(values))

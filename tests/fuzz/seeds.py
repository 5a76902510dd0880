"""Tiny files to damage, cut from the sample clips and written in several containers and codecs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SIZE = {"drive.mp4": (128, 72), "yard.mp4": (96, 72)}


def _pictures(name: str, count: int) -> list[av.VideoFrame]:
    width, height = SIZE[name]
    with av.open(str(SAMPLES / name)) as container:
        out = []
        for frame in container.decode(video=0):
            small = frame.reformat(width=width, height=height, format="yuv420p")
            small.pts, small.time_base = frame.pts, frame.time_base
            out.append(small)
            if len(out) == count:
                break
    return out


def _write(path: Path, name: str, codec: str, *, count: int = 10, carry: tuple[str, ...] = (), **options: str) -> Path:
    """Re-encode the first pictures; copy the packets of the other streams that fall into their time."""
    pictures = _pictures(name, count)
    with av.open(str(SAMPLES / name)) as source, av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = SIZE[name]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        base = Fraction(1, 25) if path.suffix == ".avi" else pictures[0].time_base
        stream.codec_context.time_base = base
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams if s.type in carry}
        out.metadata["title"] = "fuzz"
        out.start_encoding()
        for number, picture in enumerate(pictures):
            if path.suffix == ".avi":
                picture.pts, picture.time_base = number, base
            if codec == "mjpeg":
                picture = picture.reformat(format="yuvj420p")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
        for packet in source.demux():
            if (
                packet.stream.index in copies
                and packet.dts is not None
                and packet.dts * packet.time_base < Fraction(1, 2)
            ):
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    return path


def make_seeds(folder: Path) -> list[Path]:
    """Write the files into ``folder``; each is a few kilobytes."""
    x264 = {"preset": "veryfast", "g": "5"}
    paths = [
        _write(folder / "drive.mp4", "drive.mp4", "libx264", carry=("audio", "subtitle"), **x264),
        _write(folder / "drive.mkv", "drive.mp4", "libx264", carry=("audio",), **x264),
        _write(folder / "drive.ts", "drive.mp4", "libx264", carry=("audio",), **x264),
        _write(
            folder / "drive.mov",
            "drive.mp4",
            "libx265",
            carry=("audio",),
            preset="ultrafast",
            **{"x265-params": "log-level=none"},
        ),
        _write(folder / "yard.avi", "yard.mp4", "mpeg4", g="5"),
        _write(folder / "yard.webm", "yard.mp4", "libvpx-vp9", deadline="realtime"),
        _write(folder / "yard_mjpeg.mkv", "yard.mp4", "mjpeg", count=6),
    ]
    picture = _pictures("yard.mp4", 1)[0]
    for suffix in ("png", "jpg"):
        _still(folder / f"yard.{suffix}", picture)
        paths.append(folder / f"yard.{suffix}")
    return paths


def _still(path: Path, picture: av.VideoFrame) -> None:
    codec, pix_fmt = ("png", "rgb24") if path.suffix == ".png" else ("mjpeg", "yuvj420p")
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = picture.width, picture.height, pix_fmt
    context.time_base = Fraction(1, 25)
    picture = picture.reformat(format=pix_fmt)
    path.write_bytes(b"".join(bytes(p) for p in [*context.encode(picture), *context.encode(None)]))

"""Deinterlacing keeps number and times of the frames and touches only what is interlaced."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from readclips import X264, ffmpeg, ffprobe_frames, moving, needs_ffmpeg, packet_times, read

from streamlight.media import open_source, probe

pytestmark = needs_ffmpeg

FIELDS = ["-vf", "interlace=lowpass=off", *X264, "-preset", "fast", "-crf", "5", "-flags", "+ildct+ilme"]


def bars(rate: str = "50", seconds: float = 1) -> list[str]:
    """A bright bar that moves 2 pixels a field: combing is plain to see."""
    moving_bar = f"color=c=black:s=96x64:r={rate}:d={seconds}"
    return ["-f", "lavfi", "-i", moving_bar, "-f", "lavfi", "-i", f"color=c=white:s=16x64:r={rate}:d={seconds}"]


def interlaced(path: Path) -> Path:
    graph = "[0][1]overlay=x='2*n':shortest=1,interlace=lowpass=off"
    codec = [*X264, "-preset", "fast", "-crf", "5", "-flags", "+ildct+ilme"]
    return ffmpeg(path, *bars(), "-filter_complex", graph, *codec)


def combing(luma: np.ndarray) -> float:
    """Mean size of the line-to-line zigzag."""
    rows = luma.astype(int)
    return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())


def test_flagged_frames_are_deinterlaced_one_for_one(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "a.mp4")
    assert all(f["interlaced_frame"] for f in ffprobe_frames(path, "interlaced_frame"))
    assert probe(path).interlaced
    with open_source(path) as source:
        frames = list(source.frames())
        assert source.stats.deinterlaced == len(frames) == 25
    assert [f.pts for f in frames] == packet_times(path)
    raw = read(path, deinterlace="off")
    assert combing(raw[12].planes[0]) > 10 * combing(frames[12].planes[0])
    assert all(f.key_frame == r.key_frame for f, r in zip(frames, raw, strict=True))
    assert all(f.arrival > 0 for f in frames)


def test_progressive_frames_are_not_touched(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *X264)
    auto, off = read(path), read(path, deinterlace="off")
    with open_source(path) as source:
        list(source.frames())
        assert source.stats.deinterlaced == 0
    for ours, theirs in zip(auto, off, strict=True):
        np.testing.assert_array_equal(ours.planes[0], theirs.planes[0])


def test_all_deinterlaces_what_is_not_flagged(tmp_path: Path) -> None:
    graph = "[0][1]overlay=x='2*n':shortest=1,interlace=lowpass=off,setfield=prog"
    path = ffmpeg(tmp_path / "a.mkv", *bars(), "-filter_complex", graph, "-c:v", "ffv1")
    auto, everything = read(path), read(path, deinterlace="all")
    assert len(auto) == len(everything) == 25
    assert [f.pts for f in auto] == [f.pts for f in everything]
    assert combing(auto[12].planes[0]) > 10 * combing(everything[12].planes[0])


def test_mixed_content_changes_only_its_interlaced_part(tmp_path: Path) -> None:
    codec = ["-c:v", "mpeg2video", "-q:v", "2"]
    plain = ffmpeg(tmp_path / "plain.ts", *moving(size="96x64"), *codec)
    graph = "[0][1]overlay=x='2*n':shortest=1,interlace=lowpass=off"
    fields = ffmpeg(
        tmp_path / "fields.ts", *bars(), "-filter_complex", graph, *codec, "-flags", "+ildct+ilme",
        "-output_ts_offset", "1.2",
    )  # fmt: skip
    path = tmp_path / "mixed.ts"
    path.write_bytes(plain.read_bytes() + fields.read_bytes() + b"")
    with open_source(path) as source:
        frames = list(source.frames())
        flagged = [f["interlaced_frame"] for f in ffprobe_frames(path, "interlaced_frame")]
        assert source.stats.deinterlaced == sum(flagged) == 25
    raw = read(path, deinterlace="off")
    assert [f.pts for f in frames] == [f.pts for f in raw]
    same = [np.array_equal(f.planes[0], r.planes[0]) for f, r in zip(frames, raw, strict=True)]
    assert same[:25] == [True] * 25
    assert not any(same[28:45])


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_one_interlaced_frame(tmp_path: Path, name: str) -> None:
    path = ffmpeg(tmp_path / name, *moving(rate="50"), *FIELDS, "-frames:v", "1")
    frames = read(path)
    assert [f.pts for f in frames] == packet_times(path)


def test_interlaced_stream_without_times(tmp_path: Path) -> None:
    source = interlaced(tmp_path / "a.mp4")
    path = ffmpeg(tmp_path / "a.h264", "-i", str(source), "-c", "copy")
    frames = read(path)
    assert len(frames) == 25
    assert len({b.pts - a.pts for a, b in pairwise(frames)}) == 1


def test_10_bit_and_422(tmp_path: Path) -> None:
    path = ffmpeg(
        tmp_path / "a.mov",
        *moving(rate="50"),
        "-vf",
        "interlace",
        "-c:v",
        "prores_ks",
        "-pix_fmt",
        "yuv422p10le",
        "-flags",
        "+ildct",
    )
    with open_source(path) as source:
        frames = list(source.frames())
        assert source.stats.deinterlaced == 25
    assert (frames[0].color.bit_depth, frames[0].color.chroma) == (10, "422")


@pytest.mark.parametrize("pix_fmt", ["nv12", "yuyv422", "rgb24", "gray"])
def test_formats_that_the_filter_does_not_know(tmp_path: Path, pix_fmt: str) -> None:
    path = ffmpeg(tmp_path / "a.nut", *moving(), "-c:v", "rawvideo", "-pix_fmt", pix_fmt)
    off = read(path, deinterlace="off")
    with open_source(path, deinterlace="all") as source:
        frames = list(source.frames())
        assert source.stats.rescaled == 0
        assert source.stats.deinterlaced == 25
    assert [f.pts for f in frames] == [f.pts for f in off]
    assert frames[0].color == off[0].color
    scale = off[0].color.peak / 255
    assert np.abs(frames[7].planes[0].astype(int) - off[7].planes[0]).mean() / scale < 6

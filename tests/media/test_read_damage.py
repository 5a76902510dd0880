"""Damaged and cut-off files: everything that can be decoded comes out, the rest is counted."""

from __future__ import annotations

import random
from pathlib import Path

import av
import pytest
from readclips import X264, digest, ffmpeg, moving, needs_ffmpeg, packet_times, read

from streamlight.errors import MediaError
from streamlight.media import open_source

pytestmark = needs_ffmpeg

CODECS = {
    "h264.mp4": [*X264, "-preset", "fast", "-bf", "2", "-g", "12", "-movflags", "+faststart"],
    "h265.mkv": ["-c:v", "libx265", "-x265-params", "log-level=none:keyint=12"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-g", "12"],
    "mpeg2.ts": ["-c:v", "mpeg2video", "-bf", "2", "-g", "12"],
}


def clip(folder: Path, name: str) -> Path:
    return ffmpeg(folder / name, *moving(seconds=2, size="128x96"), *CODECS[name])


def damage(path: Path, *numbers: int, keep: int = 5) -> Path:
    """Overwrite the bodies of some packets (in file order) with noise; their headers stay."""
    data = bytearray(path.read_bytes())
    noise = random.Random(3)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        for number in numbers:
            at, size = packets[number].pos + keep, packets[number].size - keep
            data[at : at + size] = noise.randbytes(size)
    out = path.with_name(f"damaged-{path.name}")
    out.write_bytes(data)
    return out


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("numbers", [(20,), (20, 21, 22), (49,), (48, 49), (46,), (0,)])
@pytest.mark.parametrize("name", ["h264.mp4", "h265.mkv", "vp9.webm"])
def test_damaged_packets_are_counted_and_cost_no_other_frame(
    tmp_path: Path, name: str, numbers: tuple[int, ...], threads: int
) -> None:
    path = damage(clip(tmp_path, name), *numbers)
    with open_source(path, threads=threads) as source:
        frames = list(source.frames())
        stats = source.stats
    # One thread is the reference: it meets every error when the packet is sent and loses nothing behind it.
    reference = read(path, threads=1)
    assert [f.pts for f in frames] == [f.pts for f in reference]
    assert stats.packets == 50
    assert stats.damaged_packets >= len(numbers)
    assert stats.without_picture == 50 - len(frames)
    assert len(frames) >= 38


@pytest.mark.parametrize("threads", [2, 4])
def test_damage_at_the_end_does_not_swallow_good_frames(tmp_path: Path, threads: int) -> None:
    good = clip(tmp_path, "h264.mp4")
    path = damage(good, 49)
    frames = read(path, threads=threads)
    assert len(frames) == 49
    whole = {f.pts: digest(f) for f in read(good)}
    assert all(digest(f) == whole[f.pts] for f in frames)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_damage_at_the_end_of_a_stream_without_times(tmp_path: Path, threads: int) -> None:
    good = clip(tmp_path, "h264.mp4")
    raw = ffmpeg(tmp_path / "a.h264", "-i", str(good), "-c", "copy")
    path = damage(raw, 49)
    with open_source(path, threads=threads) as source:
        frames = list(source.frames())
        assert source.stats.damaged_packets == source.stats.without_picture == 1
    assert [digest(f) for f in frames] == [digest(f) for f in read(raw)][:49]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_pipe_is_read_once_and_to_the_end(tmp_path: Path, damaged: bool) -> None:
    import os
    import threading

    good = clip(tmp_path, "mpeg2.ts")
    data = good.read_bytes()
    fifo = tmp_path / "pipe.ts"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(data[: len(data) // 2 if damaged else None]))
    writer.start()
    with open_source(fifo, threads=4) as source:
        frames = list(source.frames())
    writer.join()
    assert len(frames) == 50 if not damaged else 20 < len(frames) < 50


def test_a_long_run_of_damage_is_an_error(tmp_path: Path) -> None:
    path = damage(clip(tmp_path, "h264.mp4"), *range(10, 40))
    with open_source(path, max_damaged=30) as source:
        frames = list(source.frames())
        assert source.stats.damaged_packets >= 20
        assert len(frames) >= 10
    seen = []
    with open_source(path, max_damaged=5, threads=1) as source, pytest.raises(MediaError, match="more than 5 damaged"):
        seen.extend(source.frames())


def test_nothing_but_damage(tmp_path: Path) -> None:
    path = damage(clip(tmp_path, "h264.mp4"), *range(50), keep=0)
    with pytest.raises(MediaError):
        open_source(path)


@pytest.mark.parametrize("part", [0.45, 0.8, 0.97])
@pytest.mark.parametrize("name", list(CODECS))
def test_everything_before_the_cut_comes_out(tmp_path: Path, name: str, part: float) -> None:
    whole = clip(tmp_path, name)
    data = whole.read_bytes()
    path = tmp_path / f"cut-{name}"
    path.write_bytes(data[: int(len(data) * part)])
    with av.open(str(path)) as container:
        complete = [p.pts for p in container.demux(video=0) if p.size and not p.is_corrupt]
    with open_source(path) as source:
        frames = list(source.frames())
        stats = source.stats
    pixels = {f.pts: digest(f) for f in read(whole)}
    good = [f for f in frames if not f.damaged]
    assert len(complete) > 8
    # A picture whose packet is whole can still refer to one that is not there: B-frames at the cut.
    assert len(good) >= len(complete) - 3
    assert all(digest(f) == pixels[f.pts] for f in good[:-3])
    assert stats.packets >= len(complete)
    if part < 0.5 and not name.endswith("ts"):  # the header of a transport stream promises nothing
        assert stats.short_by is not None


def test_cut_off_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *X264)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(MediaError, match="cut off"):
        open_source(path)


def test_frames_with_concealed_errors_are_flagged(tmp_path: Path) -> None:
    path = clip(tmp_path, "mpeg2.ts")
    data = bytearray(path.read_bytes())
    noise = random.Random(1)
    for at in range(len(data) // 2 + 300, len(data) // 2 + 900):
        if at % 188 > 20:
            data[at] = noise.randrange(256)
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source.frames())
        assert source.stats.damaged_frames == sum(f.damaged for f in frames) > 0
    assert len(frames) >= 45


def test_hole_in_a_transport_stream(tmp_path: Path) -> None:
    path = clip(tmp_path, "mpeg2.ts")
    data = path.read_bytes()
    hole = len(data) // 3 // 188 * 188
    path.write_bytes(data[:hole] + data[hole + 20 * 188 :])
    with open_source(path) as source:
        frames = list(source.frames())
        strange = {f.pts for f in frames} - set(packet_times(path))
        assert len(strange) <= source.stats.repaired_pts <= 1
    assert len(frames) > 35

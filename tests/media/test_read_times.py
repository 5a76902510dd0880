"""Timestamps that the reader delivers, against ffprobe and raw packets."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from readclips import X264, ffmpeg, ffprobe_frames, moving, needs_ffmpeg, packet_times, read

from streamlight.errors import ConfigError, MediaError
from streamlight.media import open_source, probe

pytestmark = needs_ffmpeg

REORDERED = [*X264, "-preset", "fast", "-bf", "3", "-b_strategy", "0", "-g", "10"]


def times(path: Path, **kwargs: object) -> list[int]:
    return [frame.pts for frame in read(path, **kwargs)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.flv"])
def test_b_frames_come_in_presentation_order(tmp_path: Path, name: str) -> None:
    path = ffmpeg(tmp_path / name, *moving(), *REORDERED)
    with av.open(str(path)) as container:
        coded = [p.pts for p in container.demux(video=0) if p.size]
    assert coded != sorted(coded), "the clip must have reordered frames"
    assert times(path) == sorted(coded)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_variable_frame_rate_is_kept(tmp_path: Path, name: str) -> None:
    codec = ["-c:v", "libvpx", "-deadline", "realtime"] if name.endswith("webm") else REORDERED
    path = ffmpeg(tmp_path / name, *moving(), "-vf", "setpts='(N*N+7*N)/90/TB'", "-vsync", "passthrough", *codec)
    got = times(path)
    assert got == packet_times(path)
    steps = {b - a for a, b in pairwise(got)}
    assert len(steps) > 10, "the clip must have a variable rate"


@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001", "60000/1001"])
def test_ntsc_rates_are_exact(tmp_path: Path, rate: str) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(rate=rate), *REORDERED)
    with open_source(path) as source:
        assert source.info.average_rate == Fraction(rate)
        seconds = [frame.seconds for frame in source.frames()]
    assert seconds == [n / Fraction(rate) for n in range(len(seconds))]


@pytest.mark.parametrize(("name", "offset"), [("a.mkv", "3.5"), ("a.ts", "10"), ("a.mp4", "2"), ("a.asf", "-1.2")])
def test_streams_that_do_not_start_at_zero(tmp_path: Path, name: str, offset: str) -> None:
    codec = ["-c:v", "mpeg4"] if name.endswith("asf") else REORDERED  # ASF has decoding times only
    more = ["-avoid_negative_ts", "disabled", "-copyts", "-muxdelay", "0"]
    path = ffmpeg(tmp_path / name, *moving(), *codec, "-output_ts_offset", offset, *more)
    with open_source(path) as source:
        got = [frame.pts for frame in source.frames()]
        assert got == packet_times(path)
        assert source.info.start_pts == got[0]
        assert float(source.info.start_time) == pytest.approx(float(offset), abs=0.2)
    assert (got[0] < 0) == offset.startswith("-")


def test_sound_that_starts_later_does_not_move_the_picture(tmp_path: Path) -> None:
    sound = ["-itsoffset", "0.4", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac"]
    path = ffmpeg(tmp_path / "a.mkv", *moving(), *sound, *REORDERED, "-map", "0:v", "-map", "1:a")
    info = probe(path)
    audio = next(stream for stream in info.streams if stream.kind == "audio")
    assert info.start_time == 0
    assert audio.start_pts * audio.time_base == pytest.approx(0.4, abs=0.05)
    assert times(path) == packet_times(path, info.stream_index)


def test_sound_before_the_picture(tmp_path: Path) -> None:
    picture = ["-itsoffset", "0.5", *moving()]
    path = ffmpeg(tmp_path / "a.mkv", "-f", "lavfi", "-i", "sine=d=2", *picture, "-c:a", "aac", *REORDERED)
    info = probe(path)
    assert times(path) == packet_times(path, info.stream_index)
    assert info.start_pts == packet_times(path, info.stream_index)[0]
    assert info.start_time > Fraction(2, 5)


def test_raw_stream_without_any_time_gets_steps_of_its_rate(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.h264", *moving(rate="30000/1001"), *REORDERED)
    with open_source(path) as source:
        frames = list(source.frames())
        assert source.stats.missing_pts == len(frames) == 30
        assert [f.seconds for f in frames] == [n * Fraction(1001, 30000) for n in range(30)]
        assert all(isinstance(f.pts, int) for f in frames)


@pytest.mark.parametrize("codec", [["-c:v", "mpeg4", "-bf", "2"], REORDERED, ["-c:v", "mpeg4", "-bf", "2", "-packed"]])
def test_missing_pts_in_avi_follow_the_decoding_times(tmp_path: Path, codec: list[str]) -> None:
    packed = codec[-1] == "-packed"
    path = ffmpeg(tmp_path / "a.avi", *moving(), *(codec[:-1] if packed else codec))
    with open_source(path) as source:
        got = [frame.pts for frame in source.frames()]
        missing = source.stats.missing_pts
    assert len(got) == 25
    best = [f.get("best_effort_timestamp") for f in ffprobe_frames(path, "best_effort_timestamp,pkt_dts")]
    dts = [f.get("pkt_dts") for f in ffprobe_frames(path, "best_effort_timestamp,pkt_dts")]
    reference = [b if b is not None else d for b, d in zip(best, dts, strict=True)]
    known = [(ours, theirs) for ours, theirs in zip(got, reference, strict=True) if theirs is not None]
    assert missing > 0
    assert len(known) >= 22
    assert all(ours == theirs for ours, theirs in known)
    steps = {b - a for a, b in pairwise(got)}
    assert len(steps) == 1, f"the rate is constant, and so must be the steps: {got}"


def test_time_that_jumps_back_goes_on(tmp_path: Path) -> None:
    one = ffmpeg(tmp_path / "one.ts", *moving(), *REORDERED)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() * 2)
    with open_source(joined) as source:
        frames = list(source.frames())
        assert len(frames) == 50
        assert all(a.pts < b.pts for a, b in pairwise(frames))
        assert source.stats.repaired_pts == 25
        assert frames[-1].seconds - frames[0].seconds < 3


def test_one_frame_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = ffmpeg(tmp_path / name, *moving(), *REORDERED, "-frames:v", "1")
        frames = read(path)
        assert [f.pts for f in frames] == packet_times(path)
        assert not probe(path).is_image


def test_header_that_lies_about_rate_count_and_duration(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.avi", *moving(), "-c:v", "mjpeg")
    data = bytearray(path.read_bytes())
    main, stream = data.index(b"avih") + 8, data.index(b"strh") + 8
    data[main : main + 4] = (1000).to_bytes(4, "little")  # microseconds a frame
    data[main + 16 : main + 20] = (7).to_bytes(4, "little")  # total frames
    data[stream + 32 : stream + 36] = (7).to_bytes(4, "little")  # length
    path.write_bytes(data)
    with open_source(path) as source:
        assert source.info.frame_count != 25 or source.info.duration != 1
        assert len(list(source.frames())) == 25


def test_matroska_that_lies_about_its_duration(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mkv", *moving(), *REORDERED)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a double in milliseconds
    data[at : at + 8] = bytes.fromhex("40f86a0000000000")  # 100000.0
    path.write_bytes(data.replace(b"00:00:01.00", b"00:01:40.00"))
    assert probe(path).duration == 100
    with open_source(path) as source:
        assert [frame.pts for frame in source.frames()] == packet_times(path)
        assert source.stats.short_by == 100 - Fraction(24, 25)


def test_edit_list_of_a_cut_without_re_encoding(tmp_path: Path) -> None:
    whole = ffmpeg(tmp_path / "whole.mp4", *moving(seconds=2), *REORDERED)
    path = ffmpeg(tmp_path / "a.mp4", "-ss", "0.7", "-i", str(whole), "-c", "copy")
    with av.open(str(path)) as container:
        packets = [(p.pts, p.is_discard) for p in container.demux(video=0) if p.size]
    assert any(discard for _, discard in packets), "the cut must lie between key frames"
    shown = sorted(pts for pts, discard in packets if not discard)
    with open_source(path) as source:
        assert [frame.pts for frame in source.frames()] == shown
        assert source.stats.without_picture == 0


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, Fraction(1, 2)), (Fraction(1, 2), None), (Fraction(2, 5), Fraction(4, 5)),
        (Fraction(0), Fraction(1, 1000)), (Fraction(401, 1000), Fraction(441, 1000)), (Fraction(24, 25), None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.h264", "a.avi"])
def test_window_is_exact_to_the_frame(tmp_path: Path, name: str, start: Fraction | None, end: Fraction | None) -> None:
    path = ffmpeg(tmp_path / name, *moving(), *REORDERED)
    full = read(path)
    origin = full[0].seconds
    low, high = start or 0, end if end is not None else 99
    expected = [f.pts for f in full if low <= f.seconds - origin < high]
    with open_source(path, start=start, end=end) as source:
        got = list(source.frames())
        assert [f.pts for f in got] == expected
        assert [f.index for f in got] == list(range(len(got)))
        assert source.info.window == (
            None if start is None else origin + start,
            None if end is None else origin + end,
        )


def test_window_seeks_instead_of_decoding_everything(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mkv", *moving(seconds=2), *REORDERED)
    with open_source(path, start=Fraction(3, 2)) as source:
        frames = list(source.frames())
        assert source.seeked
        assert source.stats.packets < 25
        assert len(frames) == 12  # 38 to 49


def test_empty_window_and_wrong_windows(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *moving(), *REORDERED)
    with open_source(path, start=Fraction(20)) as source, pytest.raises(MediaError, match=r"no frames from 20 s"):
        list(source.frames())
    with pytest.raises(ConfigError, match="end must lie behind start"):
        open_source(path, start=Fraction(1), end=Fraction(1))
    with pytest.raises(ConfigError, match="negative"):
        open_source(path, start=Fraction(-1))


def test_arrival_is_the_time_of_reading(tmp_path: Path) -> None:
    import time

    path = ffmpeg(tmp_path / "a.mp4", *moving(), *REORDERED)
    before = time.monotonic()
    arrivals = [frame.arrival for frame in read(path)]
    assert all(before <= arrival <= time.monotonic() for arrival in arrivals)
    assert len(set(arrivals)) > 10

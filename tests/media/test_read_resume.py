"""Resuming behind a position gives exactly the rest of the uninterrupted run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from readclips import X264, ffmpeg, identity, keep, moving, needs_ffmpeg, position, read

from streamlight.errors import MediaError
from streamlight.media import Position, open_source

pytestmark = needs_ffmpeg

B_FRAMES = [*X264, "-preset", "fast", "-bf", "3", "-b_strategy", "0", "-g", "10"]
OPEN_GOP = ["-c:v", "libx265", "-x265-params", "open-gop=1:keyint=10:bframes=3:log-level=none"]
VFR = ["-vf", "settb=1/1000,setpts='N*N+30*N'", "-vsync", "passthrough", "-enc_time_base", "1:1000"]
FIELDS = ["-vf", "interlace", "-flags", "+ildct+ilme"]
X264_OPEN = [*X264, "-preset", "fast", "-x264-params", "open-gop=1:keyint=10:bframes=3"]
INTRA_REFRESH = [*X264, "-preset", "fast", "-x264-params", "intra-refresh=1:keyint=10"]

CASES: dict[str, tuple[str, list[str], bool]] = {
    # file name, encoding, whether it can be resumed by seeking
    "b-frames mp4": ("a.mp4", B_FRAMES, True),
    "b-frames mkv": ("a.mkv", B_FRAMES, True),
    "b-frames ts": ("a.ts", B_FRAMES, True),
    "open gop h265 mkv": ("a.mkv", OPEN_GOP, True),
    "open gop h265 mp4": ("a.mp4", OPEN_GOP, True),
    "open gop h264": ("a.mkv", X264_OPEN, False),
    "intra refresh h264": ("a.ts", INTRA_REFRESH, False),
    "open gop mpeg2 ts": ("a.ts", ["-c:v", "mpeg2video", "-bf", "2", "-g", "10"], True),
    "mpeg2 program stream": ("a.mpg", ["-c:v", "mpeg2video", "-bf", "2", "-g", "10"], False),
    "vfr mp4": ("a.mp4", [*VFR, *B_FRAMES], True),
    "vfr mkv": ("a.mkv", [*VFR, *B_FRAMES], True),
    "missing pts raw": ("a.h264", B_FRAMES, False),
    "missing pts avi": ("a.avi", ["-c:v", "mpeg4", "-bf", "2", "-g", "10"], False),
    "missing pts avi h264": ("b.avi", B_FRAMES, False),
    "interlaced h264": ("a.mp4", [*FIELDS, *B_FRAMES], True),
    "interlaced mpeg2": ("a.ts", [*FIELDS, "-c:v", "mpeg2video", "-bf", "2", "-g", "10"], True),
    "vp9": ("a.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-g", "10"], True),
    "vp8": ("a.webm", ["-c:v", "libvpx", "-deadline", "realtime", "-g", "10"], True),
    "ffv1": ("a.mkv", ["-c:v", "ffv1", "-g", "5"], True),
    "wmv": ("a.wmv", ["-c:v", "wmv2", "-g", "10"], False),
}
POSITIONS = (0, 1, 2, 9, 10, 11, 14, 19, 20, 21, 22, 25, 29, 30, 33, 38, 39)


def check(path: Path, positions: tuple[int, ...] = POSITIONS, **kwargs: object) -> int:
    """Resume at many positions; returns how many of them were reached by seeking."""
    full = read(path, **kwargs)
    whole = identity(full)
    seeked = 0
    for number in positions:
        if number >= len(full):
            continue
        with open_source(path, resume=position(full[number]), **kwargs) as source:  # type: ignore[arg-type]
            rest = [keep(frame) for frame in source.frames()]
            seeked += source.seeked
            assert source.stats.frames == len(rest)
        assert identity(rest) == whole[number + 1 :], f"behind frame {number}"
    return seeked


def clip(folder: Path, case: str) -> Path:
    name, encoding, _ = CASES[case]
    rate = "50" if "interlace" in encoding else "25"
    return ffmpeg(folder / name, *moving(seconds=1.6, rate=rate), *encoding)


@pytest.mark.parametrize("case", list(CASES))
def test_the_rest_is_the_rest_of_the_full_run(tmp_path: Path, case: str) -> None:
    seeked = check(clip(tmp_path, case))
    assert (seeked > 0) == CASES[case][2]


@pytest.mark.parametrize("case", ["b-frames mp4", "open gop h265 mkv", "open gop h264", "missing pts avi", "vfr mkv"])
def test_with_a_window(tmp_path: Path, case: str) -> None:
    path = clip(tmp_path, case)
    check(path, (0, 1, 5, 11, 20), start=Fraction(2, 5), end=Fraction(7, 5))


@pytest.mark.parametrize("mode", ["off", "all"])
def test_with_other_deinterlacing(tmp_path: Path, mode: str) -> None:
    check(clip(tmp_path, "interlaced h264"), (0, 5, 20, 25, 33), deinterlace=mode)


def test_with_changing_sizes(tmp_path: Path) -> None:
    one = ffmpeg(tmp_path / "one.ts", *moving(size="64x48"), *B_FRAMES)
    two = ffmpeg(tmp_path / "two.ts", *moving(size="96x64"), *B_FRAMES, "-output_ts_offset", "1.2")
    path = tmp_path / "both.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    assert check(path, (3, 24, 25, 26, 44, 49)) > 0


def test_with_damage(tmp_path: Path) -> None:
    from test_read_damage import clip as damaged_clip
    from test_read_damage import damage

    path = damage(damaged_clip(tmp_path, "h264.mp4"), 20)
    check(path, (0, 15, 18, 19, 20, 21, 30, 47, 48), threads=1)


def test_joined_recordings_whose_time_jumps_back(tmp_path: Path) -> None:
    one = ffmpeg(tmp_path / "one.ts", *moving(), *B_FRAMES)
    path = tmp_path / "joined.ts"
    path.write_bytes(one.read_bytes() * 2)
    check(path, (3, 24, 25, 26, 44, 49))


def test_behind_the_last_frame_there_is_nothing(tmp_path: Path) -> None:
    path = clip(tmp_path, "b-frames mp4")
    with open_source(path, resume=position(read(path)[-1])) as source:
        assert list(source.frames()) == []


@pytest.mark.parametrize("wrong", [Position(5, 12345), Position(5, 0), Position(4000, 512 * 4000)])
def test_a_position_of_another_file_is_refused(tmp_path: Path, wrong: Position) -> None:
    path = clip(tmp_path, "b-frames mp4")
    with open_source(path, resume=wrong) as source, pytest.raises(MediaError, match="is not the file"):
        list(source.frames())


def test_counters_are_those_of_the_rest(tmp_path: Path) -> None:
    path = clip(tmp_path, "missing pts raw")
    full = read(path)
    with open_source(path, resume=position(full[29])) as source:
        list(source.frames())
        assert source.stats.frames == source.stats.missing_pts == 10
        assert source.stats.packets <= 20

"""Presentation times, durations and sound offsets in the finished file, read by ffprobe."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from making import (
    constant,
    export,
    ffmpeg,
    ffprobe,
    increasing,
    make_frames,
    packet_times,
    payloads,
    presentation,
    sound,
)

from streamlight.media.encode import EncodeSettings
from streamlight.media.timeline import Clock, Window, rescale

EXACT = ["mp4", "mov"]
BASES = [Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 1000), Fraction(1, 1_000_000), Fraction(1, 25)]
RESOLUTION = {"mkv": Fraction(1, 1000), "webm": Fraction(1, 1000), "ts": Fraction(1, 90000)}


def times(frames):
    return [frame.pts * frame.time_base for frame in frames]


def irregular(base, count=23, start=0):
    step = max(2, round(Fraction(1, 25) / base))
    return make_frames([step * (1 + (i % 4 == 3)) + i % 2 for i in range(count)], time_base=base, start=start)


@pytest.mark.parametrize("container", EXACT)
@pytest.mark.parametrize("base", BASES, ids=str)
@pytest.mark.parametrize("preset", ["ultrafast", "medium"], ids=["plain", "b-frames"])
def test_exact_times_in_mp4_and_mov(tmp_path, container, base, preset):
    frames = irregular(base)
    report = export(tmp_path / f"o.{container}", frames, settings=EncodeSettings(preset=preset))
    packets = packet_times(tmp_path / f"o.{container}")
    assert sorted(pts for pts, _, _ in packets) == times(frames)
    assert increasing([dts for _, dts, _ in packets])
    assert all(dts <= pts for pts, dts, _ in packets)
    assert report.time_error == 0
    assert report.frames == len(frames)


@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 3), Fraction(7, 5), Fraction(3600)])
@pytest.mark.parametrize("container", EXACT)
def test_streams_that_do_not_start_at_zero(tmp_path, container, start):
    base = Fraction(1, 90000)
    frames = irregular(base, start=int(start / base))
    export(tmp_path / f"o.{container}", frames, settings=EncodeSettings(preset="medium"))
    assert presentation(tmp_path / f"o.{container}") == times(frames)


@pytest.mark.parametrize("container", ["mkv", "webm", "ts"])
@pytest.mark.parametrize("start", [0, 30011])
def test_nearest_time_where_the_container_is_coarser(tmp_path, container, start):
    base, unit = Fraction(1, 12_800_000), RESOLUTION[container]
    frames = make_frames([512_000 + 77 * (i % 5) for i in range(14)], time_base=base, start=start)
    settings = EncodeSettings(preset="8" if container == "webm" else "medium")
    report = export(tmp_path / f"o.{container}", frames, settings=settings)
    got = presentation(tmp_path / f"o.{container}")
    offset = report.shift
    assert max(abs(a - b - offset) for a, b in zip(got, times(frames), strict=True)) <= unit / 2
    assert report.time_error <= unit / 2
    assert increasing(got)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "ts"])
def test_times_before_zero_move_everything_by_the_same_amount(tmp_path, container):
    frames = irregular(Fraction(1, 90000), start=-45000)
    report = export(tmp_path / f"o.{container}", frames)
    got = presentation(tmp_path / f"o.{container}")
    assert max(abs(a - b - report.shift) for a, b in zip(got, times(frames), strict=True)) <= Fraction(1, 2000)
    assert report.shift >= Fraction(1, 2)
    assert any("before 0" in loss for loss in report.losses)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("preset", ["ultrafast", "medium"], ids=["plain", "b-frames"])
def test_the_last_frame_keeps_its_duration(tmp_path, container, preset):
    frames = make_frames([3600] * 10 + [45000], time_base=Fraction(1, 90000))
    target = tmp_path / f"o.{container}"
    export(target, frames, settings=EncodeSettings(preset=preset))
    shown = ffprobe(target, "-show_entries", "format=duration:stream=duration")
    assert float(shown["format"]["duration"]) == 0.9
    if container in EXACT:  # Matroska has no durations of single frames, only the length of the file
        assert float(shown["streams"][0]["duration"]) == 0.9
        if preset == "ultrafast":
            assert max(packet_times(target))[2] == Fraction(1, 2)


def test_avi_holds_constant_rates_and_dropped_frames_exactly(tmp_path):
    frames = make_frames([3600, 3600, 7200, 3600, 10800, 3600, 3600], time_base=Fraction(1, 90000))
    report = export(tmp_path / "o.avi", frames)
    got = [pts if pts is not None else dts for pts, dts, _ in _avi(tmp_path / "o.avi")]
    assert got == times(frames)
    assert report.losses == []
    assert report.time_error == 0


def test_avi_says_what_it_cannot_express(tmp_path):
    frames = make_frames([3600 + 37 * (i % 7) for i in range(20)], time_base=Fraction(1, 90000), start=900)
    report = export(tmp_path / "o.avi", frames)
    assert any("variable frame rate" in loss for loss in report.losses)
    assert any("starts" in loss for loss in report.losses)
    got = [dts for _, dts, _ in _avi(tmp_path / "o.avi")]
    first = times(frames)[0]
    assert (
        max(abs(a - (b - first)) for a, b in zip(got, times(frames), strict=True))
        == report.time_error
        < Fraction(1, 120)
    )


def test_avi_puts_rounded_milliseconds_back_on_their_rate(tmp_path):
    stamps = [round(i * 1001 / 30) for i in range(40)]
    durations = [b - a for a, b in zip(stamps, [*stamps[1:], 1335], strict=True)]
    report = export(tmp_path / "o.avi", make_frames(durations, time_base=Fraction(1, 1000)))
    assert report.time_base == Fraction(1001, 30000)
    assert report.losses == []


def _avi(path):
    data = ffprobe(path, "-select_streams", "v:0", "-show_entries", "stream=time_base:packet=pts,dts,size")
    base = Fraction(data["streams"][0]["time_base"])
    return [
        (int(p["pts"]) * base if "pts" in p else None, int(p["dts"]) * base, p)
        for p in data["packets"]
        if int(p["size"]) > 0
    ]


# -- sound ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


def sounding(folder, name, codec, *, offset=0.0, rate=48000, seconds=2.0):
    """A clip whose sound starts ``offset`` seconds after (or before) its picture."""
    path = folder / name
    if not path.exists():
        ffmpeg(
            *("-f", "lavfi", "-i", f"testsrc=s=64x48:r=25:d={seconds}", "-itsoffset", str(offset)),
            *("-f", "lavfi", "-i", f"aevalsrc='0.3*sin(440*t*6.28)+0.2*sin(1234*t*t)':s={rate}:d={seconds}"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", codec, path),
        )
    return path


SOUND = [
    ("mp4", "aac", "mp4 mov mkv ts"),
    ("mkv", "aac", "mp4 mkv ts"),
    ("mkv", "flac", "mp4 mkv"),
    ("mkv", "libopus", "mp4 mkv ts"),
    ("mov", "pcm_s16le", "mov mkv mp4"),
    ("ts", "aac", "mp4 mkv ts"),
    ("mp4", "ac3", "mp4 mkv ts"),
]


@pytest.mark.parametrize(
    ("kind", "codec", "container"), [(kind, codec, c) for kind, codec, targets in SOUND for c in targets.split()]
)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_sound_is_copied_and_stays_in_place(tmp_path, folder, kind, codec, container, offset):
    source = sounding(folder, f"{codec}-{offset}.{kind}", codec, offset=offset)
    frames = constant(50, start=round(90000 * presentation(source)[0]))
    target = tmp_path / f"o.{container}"
    report = export(target, frames, source, size=25)
    assert [(s.kind, s.dropped, s.repaired, s.cut) for s in report.carried] == [("audio", 0, 0, 0)]
    before, samples = sound(source)
    after, copied = sound(target)
    # What plays at the first picture must not depend on the copy: compare samples on the picture's clock.
    unit = Fraction(1, 1000) if "mkv" in (kind, container) else Fraction(1, 48000)
    lead = (presentation(target)[0] - presentation(source)[0]) - (after - before)
    skipped = round(lead * 48000)
    assert abs(lead) <= Fraction(1, 20)
    channels = 1
    ours, theirs = copied[max(0, skipped) * channels :], samples[max(0, -skipped) * channels :]
    slack = int(unit * 48000)
    count = min(len(ours), len(theirs)) - slack - 2048
    assert count > 80000
    best = min(
        float(np.abs(ours[2048 + s : count].astype(float) - theirs[2048 : count - s].astype(float)).max())
        for s in range(slack + 1)
    )
    peak = float(np.abs(theirs.astype(float)).max())
    assert best < peak / 100 or codec == "libopus"


def test_sound_packets_are_the_very_same_bytes(tmp_path, folder):
    source = sounding(folder, "aac-0.0.mp4", "aac")
    export(tmp_path / "o.mkv", constant(50), source)
    assert payloads(tmp_path / "o.mkv", 1) == payloads(source, 1)


def test_priming_stays_hidden_in_mp4(tmp_path, folder):
    source = sounding(folder, "aac-0.0.mp4", "aac")
    export(tmp_path / "o.mp4", constant(50), source)
    start, before = sound(source)
    again, after = sound(tmp_path / "o.mp4")
    assert start == again == 0
    assert np.array_equal(before, after)
    assert packet_times(tmp_path / "o.mp4", "a:0") == packet_times(source, "a:0")


@pytest.mark.parametrize("rate", [44100, 48000])
def test_late_sound_keeps_its_offset_to_the_sample_in_mp4(tmp_path, folder, rate):
    source = sounding(folder, f"late{rate}.mov", "pcm_s16le", offset=0.3337, rate=rate)
    export(tmp_path / "o.mov", constant(50), source)
    assert packet_times(tmp_path / "o.mov", "a:0")[0][0] == packet_times(source, "a:0")[0][0] > 0


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
def test_sound_that_an_edit_list_hides_is_not_played(tmp_path, folder, container):
    """A clip cut without re-encoding: MP4 keeps earlier packets and hides them."""
    source = tmp_path / "cut.mp4"
    ffmpeg("-ss", "0.7", "-i", sounding(folder, "aac-0.0.mp4", "aac"), "-c", "copy", source)
    assert packet_times(source, "a:0")[0][0] < Fraction(-1, 4)
    report = export(tmp_path / f"o.{container}", constant(25), source)
    start, samples = sound(source)
    again, copied = sound(tmp_path / f"o.{container}")
    if container == "mp4":
        assert np.array_equal(samples, copied)
        return
    assert report.carried[0].cut > 10
    assert Fraction(0) <= start - (again - report.shift) <= Fraction(1, 10)
    assert len(copied) - len(samples) < 6000


# -- windows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_a_window_shifts_every_stream_by_the_same_amount(tmp_path, folder, container):
    source = sounding(
        folder, "pcm.mkv" if container == "mkv" else "mp2.ts", "pcm_s16le" if container == "mkv" else "mp2"
    )
    frames = [f for f in constant(50, start=90000) if Fraction(1, 2) <= f.seconds - 1 < Fraction(3, 2)]
    origin = frames[0].seconds
    window = Window(Fraction(1, 2) + 1, Fraction(5, 2))
    report = export(tmp_path / f"o.{container}", frames, source, window=window)
    got = presentation(tmp_path / f"o.{container}")
    extra = Fraction(1) if container == "ts" else Fraction(0)
    assert got[0] == extra
    assert report.shift == extra - origin
    (entry,) = report.carried
    assert entry.cut > 0
    assert entry.packets > 10
    shifted = [t + report.shift for t in presentation(source, "a:0")]
    copied = presentation(tmp_path / f"o.{container}", "a:0")
    assert all(min(abs(t - s) for s in shifted) <= Fraction(1, 900) for t in copied)
    assert copied[-1] < Fraction(1) + extra
    if container == "mkv":
        assert copied[0] >= 0


# -- the clock itself ----------------------------------------------------------------------------------------------


def test_rescaling_rounds_to_nearest():
    unit, milli = Fraction(1, 90000), Fraction(1, 1000)
    assert [rescale(v, unit, Fraction(0), milli) for v in (0, 44, 45, 46, 134, 135, -44, -45, -46)] == [
        *(0, 0, 1, 1, 1, 2, 0, -1, -1)
    ]
    assert rescale(3, Fraction(1001, 30000), Fraction(1, 3), Fraction(1, 90000)) == 9009 + 30000


def test_backward_and_missing_times_are_repaired_and_counted():
    clock = Clock(Fraction(1, 1000), Fraction(1, 1000), Fraction(0), strict=True)
    out = [clock.convert(p, d, 10) for p, d in [(0, 0), (10, 10), (5, 5), (None, None), (40, None)]]
    assert [dts for _, dts, _ in out] == [0, 10, 11, 21, 40]
    assert all(pts >= dts for pts, dts, _ in out)
    assert clock.repaired == 2


def test_avi_says_that_late_sound_is_heard_early(tmp_path, folder):
    source = sounding(folder, "avi_late.mov", "pcm_s16le", offset=0.3337, rate=48000)
    report = export(tmp_path / "o.avi", constant(20), source=source)
    (loss,) = [text for text in report.losses if "AVI starts every stream at 0" in text]
    assert "0.33" in loss
    on_time = sounding(folder, "avi_on_time.mov", "pcm_s16le", offset=0.0, rate=48000)
    report = export(tmp_path / "p.avi", constant(20), source=on_time)
    assert not [text for text in report.losses if "AVI starts every stream at 0" in text]

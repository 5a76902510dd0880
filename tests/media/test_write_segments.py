"""Closed segments: exact, complete, deterministic, recognisable when cut off."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction

import numpy as np
import pytest
from making import constant, increasing, make_frames, write_segments

from streamlight.errors import MediaError
from streamlight.media.encode import EncoderPlan, EncodeSettings, plan_encoder
from streamlight.media.frame import ColorSpec
from streamlight.media.segments import (
    SegmentInfo,
    SegmentReader,
    SegmentWriter,
    decoding_times,
    reorder_depth,
    verify_segment,
)

BASES = [Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 1000), Fraction(1, 1_000_000), Fraction(1, 25)]
CODECS = [
    ("h264", "x.mkv"),
    ("hevc", "x.mkv"),
    ("av1", "x.mkv"),
    ("vp9", "x.mkv"),
    ("ffv1", "x.mkv"),
    ("prores", "x.mov"),
]
FAST = {"h264": "veryfast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}


@pytest.mark.parametrize("base", BASES, ids=str)
@pytest.mark.parametrize("start", [0, 123457, -4000])
def test_times_and_durations_survive_any_time_base(tmp_path, base, start):
    step = max(1, round(Fraction(1, 25) / base))
    durations = [step * (1 + (i % 3 == 0)) for i in range(12)]
    frames = make_frames(durations, time_base=base, start=start)
    (info,) = write_segments(tmp_path, frames, container="x.mkv", size=50)
    packets = list(SegmentReader(info.path).packets())
    assert {p.pts: p.duration for p in packets} == {f.pts: f.duration for f in frames}
    assert (info.first_pts, info.last_pts, info.last_duration) == (frames[0].pts, frames[-1].pts, durations[-1])
    assert info.time_base == SegmentReader(info.path).time_base == base


@pytest.mark.parametrize(("codec", "container"), CODECS)
def test_every_codec_gives_one_packet_per_frame(tmp_path, codec, container):
    frames = make_frames([3000, 6000, 1500, 3000, 3001, 4000], time_base=Fraction(1, 90000))
    settings = EncodeSettings(codec=codec, preset=FAST.get(codec))
    (info,) = write_segments(tmp_path, frames, container=container, settings=settings)
    packets = list(SegmentReader(info.path).packets())
    assert sorted(p.pts for p in packets) == [f.pts for f in frames]
    assert packets[0].key_frame
    assert info.codec == codec
    assert info.frames == 6


def test_b_frames_are_there_and_their_delay_is_known(tmp_path):
    frames = constant(30)
    (info,) = write_segments(tmp_path, frames, container="x.mkv", settings=EncodeSettings(preset="medium"), size=50)
    coded = [p.pts for p in SegmentReader(info.path).packets()]
    assert coded != sorted(coded)
    assert info.reorder == reorder_depth(coded) > 0


def test_the_same_plan_gives_the_same_bytes(tmp_path):
    frames = constant(20, width=96, height=64)
    plan = plan_encoder(EncodeSettings(), frames[0], container="x.mp4")
    again = EncoderPlan.from_json(plan.to_json())
    assert again == plan
    contents = []
    for name, used in (("a", plan), ("b", again)):
        with SegmentWriter(tmp_path / name, used) as writer:
            for frame in frames:
                writer.write(frame)
            writer.close()
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


def test_no_space_for_another_key_frame_distance(tmp_path):
    frames = constant(12)
    (info,) = write_segments(tmp_path, frames, container="x.mkv", settings=EncodeSettings(gop=4), size=50)
    keys = [i for i, p in enumerate(sorted(SegmentReader(info.path).packets(), key=lambda p: p.pts)) if p.key_frame]
    assert keys == [0, 4, 8]


def test_info_goes_through_json(tmp_path):
    (info,) = write_segments(tmp_path, constant(3), container="x.mkv")
    assert SegmentInfo.from_json(info.to_json(), tmp_path) == info


def test_a_cut_off_segment_is_recognised(tmp_path):
    (info,) = write_segments(tmp_path, constant(5), container="x.mkv")
    assert verify_segment(info)
    assert verify_segment(info, deep=True)
    content = info.path.read_bytes()
    for length in (0, 5, 100, len(content) // 2, len(content) - 1):
        info.path.write_bytes(content[:length])
        assert not verify_segment(info)
        with pytest.raises(MediaError, match="segment"):
            list(SegmentReader(info.path).packets())


def test_a_changed_byte_is_found_by_the_deep_check(tmp_path):
    (info,) = write_segments(tmp_path, constant(5), container="x.mkv")
    content = bytearray(info.path.read_bytes())
    content[len(content) // 2] ^= 1
    info.path.write_bytes(content)
    assert verify_segment(info)
    assert not verify_segment(info, deep=True)


def test_a_segment_that_is_not_closed_leaves_no_file(tmp_path):
    frames = constant(3)
    plan = plan_encoder(EncodeSettings(), frames[0], container="x.mkv")
    with SegmentWriter(tmp_path / "a.seg", plan) as writer:
        writer.write(frames[0])
    assert os.listdir(tmp_path) == []
    with contextlib.suppress(RuntimeError), SegmentWriter(tmp_path / "a.seg", plan) as writer:
        writer.write(frames[0])
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with pytest.raises(MediaError, match="at least one frame"), SegmentWriter(tmp_path / "a.seg", plan) as writer:
        writer.close()
    assert os.listdir(tmp_path) == []


def test_frames_must_fit_the_plan_and_come_in_order(tmp_path):
    frames = constant(3)
    plan = plan_encoder(EncodeSettings(), frames[0], container="x.mkv")
    with SegmentWriter(tmp_path / "a.seg", plan) as writer:
        writer.write(frames[1])
        with pytest.raises(MediaError, match="order"):
            writer.write(frames[0])
        with pytest.raises(MediaError, match="32x48"):
            writer.write(constant(1, width=32, start=90000)[0])
        with pytest.raises(MediaError, match="10 bit"):
            writer.write(constant(1, color=ColorSpec(bit_depth=10), start=90000)[0])


def test_padded_rows_and_read_only_planes_are_taken_as_they_are(tmp_path):
    color = ColorSpec()
    (frame,) = constant(1, color=color)
    wide = tuple(np.pad(plane, ((0, 0), (0, 13)))[:, : plane.shape[1]] for plane in frame.planes)
    for plane in wide:
        plane.flags.writeable = False
    contents = []
    for planes in (frame.planes, wide):
        frame.planes = planes
        (info,) = write_segments(tmp_path, [frame], container="x.mkv", settings=EncodeSettings(codec="ffv1"))
        contents.append([p.data for p in SegmentReader(info.path).packets()])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("coded", [[0, 1, 2], [0, 4, 2, 1, 3, 8, 6, 5, 7], [5, 3, 4], [7]])
def test_decoding_times_increase_and_never_pass_the_presentation(coded):
    depth = reorder_depth(coded)
    pairs = list(decoding_times(iter(coded), depth, first_pts=min(coded), step=1))
    assert [pts for pts, _ in pairs] == coded
    times = [dts for _, dts in pairs]
    assert increasing(times)
    assert all(dts <= pts for pts, dts in pairs)

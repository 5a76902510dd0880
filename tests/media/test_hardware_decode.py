"""Decoding on a card gives the frames of software, or software takes over and the report says so.

There is no card here: fake decoders hand out software's pictures as if they lay in CUDA memory. What they prove is
that every sample and time goes the same way; ``tests/gpu`` does the same with real ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from fakecard import FakeCard, Faults, Unwrapping
from readclips import X264, ffmpeg, identity, keep, moving, needs_ffmpeg, position, read
from test_read_damage import damage

from streamlight.errors import DeviceError
from streamlight.media import Source, cudadriver, hardware, machine, open_source
from streamlight.media.hardware import Card, like
from streamlight.media.surfaces import Surface

pytestmark = needs_ffmpeg

B_FRAMES = [*X264, "-preset", "fast", "-bf", "3", "-b_strategy", "0", "-g", "10"]
X265_10 = [
    "-c:v",
    "libx265",
    "-pix_fmt",
    "yuv420p10le",
    "-x265-params",
    "open-gop=1:keyint=10:bframes=3:log-level=none",
]
FULL_RANGE = [*X264, "-pix_fmt", "yuvj420p", "-color_range", "pc"]
FIELDS = ["-vf", "interlace=lowpass=off", *B_FRAMES, "-flags", "+ildct+ilme"]

CLIPS: dict[str, tuple[str, list[str]]] = {
    "h264 mp4": ("a.mp4", B_FRAMES),
    "h264 ts": ("a.ts", B_FRAMES),
    "h264 open gop": ("a.mkv", [*X264, "-preset", "fast", "-x264-params", "open-gop=1:keyint=10:bframes=3"]),
    "h264 full range": ("a.mp4", FULL_RANGE),
    "hevc 10 bit": ("a.mkv", X265_10),
    "vp9": ("a.webm", ["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-g", "10"]),
    "av1": ("a.mp4", ["-c:v", "libsvtav1", "-preset", "12", "-g", "10"]),
}


Clip = Callable[..., Path]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    return FakeCard(monkeypatch)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """The clip of a case, made once."""

    @cache
    def make(case: str = "h264 mp4") -> Path:
        name, encoding = CLIPS[case]
        return ffmpeg(tmp_path_factory.mktemp("clips") / name, *moving(seconds=1.6, size="64x64"), *encoding)

    return make


def on_host(frame: Any) -> Any:
    """The frame with planes of its own in main memory."""
    if isinstance(frame.planes, Surface):
        frame.planes = frame.planes.to_host()
    return keep(frame)


def run(source: Source) -> list[Any]:
    with source:
        return [on_host(frame) for frame in source.frames()]


@pytest.mark.parametrize("surfaces", [False, True])
@pytest.mark.parametrize("case", list(CLIPS))
def test_frames_are_those_of_software(clip: Clip, card: FakeCard, case: str, surfaces: bool) -> None:
    path = clip(case)
    reference = read(path)
    source = open_source(path, hardware="auto", surfaces=surfaces)
    frames = run(source)
    assert identity(frames) == identity(reference)
    assert [(f.key_frame, f.duration, f.color) for f in frames] == [
        (f.key_frame, f.duration, f.color) for f in reference
    ]
    assert source.stats.fallbacks == []
    assert (source.stats.hardware_frames, source.stats.software_frames) == (len(frames), 0)
    assert source.stats.rescaled == 0
    assert card.opened == 1


def test_without_it_nothing_is_opened(clip: Clip, card: FakeCard) -> None:
    source = open_source(clip())
    assert all(isinstance(plane, np.ndarray) for frame in run(source) for plane in frame.planes)
    assert card.opened == source.stats.hardware_frames == source.stats.software_frames == 0


@pytest.mark.parametrize(("case", "layout", "shift"), [("h264 mp4", "nv12", 0), ("hevc 10 bit", "p010", 6)])
def test_a_surface_is_imported_by_dlpack(clip: Clip, card: FakeCard, case: str, layout: str, shift: int) -> None:
    path = clip(case)
    with open_source(path, hardware="auto", surfaces=True) as source:
        for frame, reference in zip(source.frames(), read(path), strict=True):
            surface: Any = frame.planes
            assert isinstance(surface, Surface)
            assert (surface.layout, surface.shift, surface.chroma) == (layout, shift, "420")
            assert (frame.width, frame.height) == (surface.width, surface.height) == (64, 64)
            luma, chroma = (torch.from_dlpack(plane) for plane in surface)
            assert tuple(luma.shape) == surface[0].shape
            assert tuple(chroma.shape) == surface[1].shape == (32, 32, 2)
            planes = (luma, chroma[..., 0], chroma[..., 1])
            for plane, expected in zip(planes, reference.planes, strict=True):
                np.testing.assert_array_equal(plane.numpy() >> shift, expected)
            assert surface[0].dtype == reference.planes[0].dtype
            assert frame.origin is None


@pytest.mark.parametrize("case", ["h264 mp4", "hevc 10 bit"])
def test_the_engine_takes_surfaces_in(card: FakeCard, clip: Clip, case: str) -> None:
    from streamlight.engine.link import Link

    link = Link(torch.device("cpu"))
    path = clip(case)
    with open_source(path, hardware="auto", surfaces=True) as source:
        for frame, reference in zip(source.frames(), read(path), strict=True):
            ((*planes,),) = link.to_host(link.to_device(frame.planes))
            for plane, expected in zip(planes, reference.planes, strict=True):
                np.testing.assert_array_equal(plane, expected)
    assert link.stats.surfaces == 40


def test_a_plane_takes_the_streams_that_importers_name(clip: Clip, card: FakeCard) -> None:
    """PyTorch names its stream for a plane in CUDA memory, which PyAV's own planes refuse."""
    with open_source(clip(), hardware="auto", surfaces=True) as source:
        plane = next(source.frames()).planes[0]
    assert "dltensor" in repr(plane.__dlpack__(stream=7, max_version=(1, 0)))
    assert plane.__dlpack_device__() == (1, 0)


def test_surfaces_outlive_the_source(clip: Clip, card: FakeCard) -> None:
    path = clip()
    with open_source(path, hardware="auto", surfaces=True) as source:
        frames = list(source.frames())
    assert identity([on_host(frame) for frame in frames]) == identity(read(path))


@pytest.mark.parametrize("case", ["h264 mp4", "hevc 10 bit", "h264 open gop"])
@pytest.mark.parametrize(
    "faults",
    [
        Faults(drop={17}),
        Faults(drop={1, 2}),
        Faults(drop={38, 39}),
        Faults(corrupt={23}),
        Faults(refuse={12}),
        Faults(refuse={0}),
        Faults(refuse={39}),
    ],
    ids=repr,
)
def test_software_goes_on_where_the_card_fails(clip: Clip, card: FakeCard, case: str, faults: Faults) -> None:
    path = clip(case)
    card.faults = faults
    source = open_source(path, hardware="auto", surfaces=True)
    frames = run(source)
    assert identity(frames) == identity(read(path))
    stats = source.stats
    assert stats.hardware_frames + stats.software_frames == stats.frames == len(frames) == 40
    assert stats.software_frames > 0
    assert len(stats.fallbacks) == 1
    assert "CUDA device 0" in stats.fallbacks[0]
    assert stats.without_picture == stats.damaged_packets == stats.damaged_frames == 0
    assert stats.notes == []


@pytest.mark.parametrize("numbers", [(20,), (20, 21, 22), (39,), (0,)])
@pytest.mark.parametrize("case", ["h264 mp4", "hevc 10 bit", "vp9"])
def test_damage_is_concealed_and_counted_by_software(
    clip: Clip, card: FakeCard, case: str, numbers: tuple[int, ...]
) -> None:
    path = damage(clip(case), *numbers)
    plain, source = open_source(path, threads=1), open_source(path, threads=1, hardware="auto", surfaces=True)
    reference, frames = run(plain), run(source)
    assert identity(frames) == identity(reference)
    assert [f.damaged for f in frames] == [f.damaged for f in reference]
    assert len(source.stats.fallbacks) == 1
    assert source.stats.damaged_frames == plain.stats.damaged_frames
    assert source.stats.damaged_packets == plain.stats.damaged_packets
    assert source.stats.without_picture == plain.stats.without_picture
    assert source.stats.notes == plain.stats.notes


def test_a_stream_that_begins_within_a_group_is_no_loss(tmp_path: Path, card: FakeCard) -> None:
    """Leading pictures refer to what is not there; software does not show them either."""
    whole = ffmpeg(tmp_path / "whole.ts", *moving(seconds=2, size="64x64"), *X265_10)
    path = tmp_path / "cut.ts"
    with av.open(str(whole)) as container:
        keys = [p.pos for p in container.demux(video=0) if p.size and p.is_keyframe]
    path.write_bytes(whole.read_bytes()[keys[1] :])
    plain, source = open_source(path), open_source(path, hardware="auto")
    assert identity(run(source)) == identity(run(plain))
    assert source.stats.fallbacks == []
    assert source.stats.without_picture == plain.stats.without_picture > 0
    card.faults = Faults(drop={10})
    source = open_source(path, hardware="auto")
    assert identity(run(source)) == identity(run(open_source(path)))
    assert (source.stats.hardware_frames, source.stats.without_picture) == (10, plain.stats.without_picture)


@pytest.mark.parametrize("case", ["h264 mp4", "hevc 10 bit"])
def test_resuming_and_windows(clip: Clip, card: FakeCard, case: str) -> None:
    path = clip(case)
    full = read(path)
    for number in (0, 9, 20, 25, 38):
        source = open_source(path, resume=position(full[number]), hardware="auto", surfaces=True)
        assert identity(run(source)) == identity(full)[number + 1 :]
        assert source.stats.software_frames == 0
    window = {"start": Fraction(2, 5), "end": Fraction(7, 5)}
    source = open_source(path, hardware="auto", surfaces=True, **window)  # type: ignore[arg-type]
    assert identity(run(source)) == identity(read(path, **window))
    assert source.stats.software_frames == 0


@pytest.mark.parametrize("number", [22, 30])
def test_failing_again_after_resuming(clip: Clip, card: FakeCard, number: int) -> None:
    path = clip()
    full = read(path)
    card.faults = Faults(drop={12})  # counted from where the resumed pass lands
    source = open_source(path, resume=position(full[number]), hardware="auto", surfaces=True)
    assert identity(run(source)) == identity(full)[number + 1 :]
    assert source.stats.frames == len(full) - number - 1


def test_pictures_that_come_out_in_main_memory_are_used_and_counted(clip: Clip, card: FakeCard) -> None:
    path = clip()
    card.faults = Faults(software={5, 6, 7})
    source = open_source(path, hardware="auto", surfaces=True)
    assert identity(run(source)) == identity(read(path))
    assert (source.stats.hardware_frames, source.stats.software_frames) == (37, 3)
    assert source.stats.fallbacks == [
        "decoded in software, not on a CUDA device: 3 frames that the decoder did not take there"
    ]


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(software=set(range(100))), "took software"),
        (Faults(wrong={0}), "not the one that the software decoder gives"),
        (Faults(drop=set(range(100))), "no picture"),
        (Faults(corrupt={0}), "damaged"),
    ],
    ids=["software", "wrong", "nothing", "corrupt"],
)
def test_a_card_is_tried_first(clip: Clip, card: FakeCard, faults: Faults, reason: str) -> None:
    path = clip()
    card.faults = faults
    source = open_source(path, hardware="auto", surfaces=True)
    assert reason in source.stats.fallbacks[0]
    assert identity(run(source)) == identity(read(path))
    assert (source.stats.hardware_frames, source.stats.software_frames) == (0, 40)
    with pytest.raises(DeviceError, match=reason):
        open_source(path, hardware="nvdec")


def test_a_driver_that_does_not_open(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise av.error.PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(hardware, "HWAccel", refuse)
    monkeypatch.setattr(hardware, "primary_context", lambda index: nullcontext())
    path = clip()
    source = open_source(path, hardware="auto", device=3)
    assert source.stats.fallbacks == [
        "decoded in software, not on CUDA device 3: CUDA device 3 does not open for decoding "
        "(Operation not permitted); it needs an NVIDIA GPU and its driver"
    ]
    assert identity(run(source)) == identity(read(path))
    with pytest.raises(DeviceError, match=r"a\.mp4.*does not open.*--hardware-decode auto"):
        open_source(path, hardware="nvdec")


class FakeDriver:
    """NVIDIA's driver with one device, or with none that opens."""

    def __init__(self, *, code: int = 0) -> None:
        self.code = code
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if name == "cuGetErrorName":
                arguments[1]._obj.value = b"CUDA_ERROR_NO_DEVICE"
                return 0
            self.calls.append(name)
            return self.code

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    fake = FakeDriver()
    monkeypatch.setattr(cudadriver, "_library", lambda: fake)
    cudadriver._retained.cache_clear()
    yield fake
    cudadriver._retained.cache_clear()


def test_decoders_are_opened_in_pytorch_s_context(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver) -> None:
    """FFmpeg's own way to the primary context fails once PyTorch uses it."""
    opened = ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2"]
    asked: list[dict[str, Any]] = []

    def create(*arguments: Any, hwaccel: Any) -> None:
        assert driver.calls[-len(opened) :] == opened
        asked.append(hwaccel.options)

    monkeypatch.setattr(hardware.av.CodecContext, "create", create)
    assert hardware.opening_failure(1) is None
    assert asked == [{"primary_ctx": "0", "current_ctx": "1"}]
    assert driver.calls == [*opened, "cuCtxPopCurrent_v2"]
    with cudadriver.primary_context(1):
        pass
    assert driver.calls.count("cuDevicePrimaryCtxRetain") == 1


def test_a_driver_without_a_device(driver: FakeDriver) -> None:
    driver.code = 100
    assert hardware.opening_failure(1) == "CUDA device 1 does not open (CUDA_ERROR_NO_DEVICE)"


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudadriver, "_LIBRARY", "libnothing.so.1")
    cudadriver._library.cache_clear()
    assert not cudadriver.has_driver()
    assert hardware.opening_failure() == "there is no NVIDIA driver (libnothing.so.1 is missing)"


def test_a_build_without_cuda(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "hwdevices_available", lambda: ["vaapi"])
    with pytest.raises(DeviceError, match="made without CUDA"):
        open_source(clip(), hardware="nvdec")


def test_a_build_whose_decoder_knows_no_card(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV then opens the decoder all the same, without an error."""
    real = av.CodecContext.create
    created = lambda name, mode, hwaccel: real(name, mode)  # noqa: E731
    monkeypatch.setattr(hardware, "HWAccel", lambda *arguments, **more: None)
    monkeypatch.setattr(hardware, "primary_context", lambda index: nullcontext())
    monkeypatch.setattr(hardware.av.CodecContext, "create", created)
    with pytest.raises(DeviceError, match="no CUDA decoder for h264"):
        open_source(clip(), hardware="nvdec")


@pytest.mark.parametrize(
    ("name", "encoding", "more", "reason"),
    [
        ("a.mp4", [*X264, "-pix_fmt", "yuv444p"], {}, "yuv444p"),
        ("a.mp4", [*X264, "-vf", "crop=62:64,pad=63:64", "-pix_fmt", "yuv444p"], {}, "yuv444p"),
        ("a.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuv420p"], {}, "ffv1"),
        ("a.ts", ["-c:v", "mpeg2video"], {}, "mpeg2video"),
        ("a.mp4", FIELDS, {}, "deinterlaced"),
        ("a.mp4", B_FRAMES, {"deinterlace": "all"}, "deinterlaced"),
        ("a.mkv", [*X265_10, "-color_trc", "smpte2084", "-colorspace", "bt2020nc"], {"tonemap": True}, "HDR"),
        ("a.png", ["-frames:v", "1"], {}, "still image"),
    ],
)
def test_what_is_not_for_a_card_is_decoded_in_software(
    tmp_path: Path, card: FakeCard, name: str, encoding: list[str], more: dict[str, Any], reason: str
) -> None:
    path = ffmpeg(tmp_path / name, *moving(seconds=0.4, size="64x64"), *encoding)
    source = open_source(path, hardware="auto", surfaces=True, **more)
    assert reason in source.stats.fallbacks[0]
    assert card.opened == 0
    assert identity(run(source)) == identity(read(path, **more))
    with pytest.raises(DeviceError, match=reason):
        open_source(path, hardware="nvdec", **more)


@pytest.mark.parametrize("name", ["a.h264", "a.avi"])
def test_streams_without_times_stay_in_software(tmp_path: Path, card: FakeCard, name: str) -> None:
    """A lost picture would move all behind it to wrong times."""
    path = ffmpeg(tmp_path / name, *moving(seconds=0.4, size="64x64"), *B_FRAMES)
    source = open_source(path, hardware="auto", surfaces=True)
    assert "come without times" in source.stats.fallbacks[0]
    assert identity(run(source)) == identity(read(path))


def test_odd_sizes_stay_in_software(tmp_path: Path, card: FakeCard) -> None:
    path = ffmpeg(tmp_path / "a.webm", *moving(seconds=0.2, size="63x48"), "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p")
    assert "63x48 is an odd size" in open_source(path, hardware="auto").stats.fallbacks[0]


def test_what_can_be_read_once_stays_in_software(tmp_path: Path, clip: Clip, card: FakeCard) -> None:
    path = clip("h264 ts")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if os.fork() == 0:
        try:
            with open(pipe, "wb") as out:
                out.write(path.read_bytes())
        finally:
            os._exit(0)
    source = open_source(pipe, hardware="auto")
    assert "only once" in source.stats.fallbacks[0]
    assert identity(run(source)) == identity(read(path))
    os.wait()


def joined(folder: Path, *parts: Path) -> Path:
    """One stream made of several, without a gap that counts as damage."""
    listed = folder / "parts.txt"
    listed.write_text("".join(f"file '{part}'\n" for part in parts))
    return ffmpeg(folder / "joined.ts", "-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy")


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_pictures_that_become_interlaced(tmp_path: Path, card: FakeCard, mode: str) -> None:
    """The filter looks at the picture before, so that one must come to main memory, too."""
    one = ffmpeg(tmp_path / "one.ts", *moving(size="64x64"), *B_FRAMES)
    two = ffmpeg(tmp_path / "two.ts", *moving(size="64x64", rate="50"), *FIELDS)
    path = joined(tmp_path, one, two)
    plain = open_source(path, deinterlace=mode)  # type: ignore[arg-type]
    source = open_source(path, deinterlace=mode, hardware="auto", surfaces=True)  # type: ignore[arg-type]
    assert identity(run(source)) == identity(run(plain))
    assert source.stats.deinterlaced == plain.stats.deinterlaced
    assert (source.stats.deinterlaced > 0) == (mode == "auto")
    assert source.stats.hardware_frames == source.stats.frames


@pytest.mark.parametrize("encoding", [B_FRAMES, [*B_FRAMES, "-color_range", "pc", "-pix_fmt", "yuvj420p"]])
@pytest.mark.parametrize("size", ["96x64", "64x64"])
def test_pictures_that_change(tmp_path: Path, card: FakeCard, size: str, encoding: list[str]) -> None:
    one = ffmpeg(tmp_path / "one.ts", *moving(size="64x64"), *B_FRAMES)
    two = ffmpeg(tmp_path / "two.ts", *moving(size=size), *encoding)
    path = joined(tmp_path, one, two)
    plain, source = open_source(path), open_source(path, hardware="auto", surfaces=True)
    assert identity(run(source)) == identity(run(plain))
    assert source.stats.rescaled == plain.stats.rescaled
    assert source.stats.hardware_frames == source.stats.frames


def test_a_frame_keeps_its_captions(tmp_path: Path, card: FakeCard) -> None:
    from test_write_picture import captioned

    from streamlight.media.packer import has_captions

    raw = tmp_path / "a.h264"
    count = captioned(raw)
    path = ffmpeg(tmp_path / "a.mp4", "-i", str(raw), "-c", "copy")
    with open_source(path, hardware="auto", surfaces=True) as source:
        frames = list(source.frames())
    assert source.stats.hardware_frames == count
    assert all(has_captions(frame.origin) and frame.origin.format.name == "yuv420p" for frame in frames)


def test_a_card_that_does_not_give_pictures_back(clip: Clip, card: FakeCard) -> None:
    path = clip()
    source = open_source(path, hardware="auto")
    frames = []
    with source:
        for frame in source.frames():
            frames.append(keep(frame))
            Unwrapping.broken = len(frames) == 10
    assert identity(frames) == identity(read(path))
    assert source.stats.hardware_frames == 10
    assert "cannot be read from the card" in source.stats.fallbacks[0]


@pytest.mark.parametrize("case", list(CLIPS))
def test_a_decoder_of_our_own_decodes_as_the_container_s(clip: Clip, case: str) -> None:
    with av.open(str(clip(case))) as container:
        stream = container.streams.video[0]
        own = like(av.CodecContext.create(stream.codec_context.codec.name, "r"), stream.codec_context)
        assert own.reorder_depth == stream.codec_context.reorder_depth
        assert (stream.codec_context.reorder_depth > 0) == (case not in ("vp9", "av1", "h264 full range"))
        packets = [packet for packet in container.demux(stream) if packet.size]
        mine = [(f.pts, f.to_ndarray().tobytes()) for p in [*packets, None] for f in own.decode(p)]
        theirs = [(f.pts, f.to_ndarray().tobytes()) for p in [*packets, None] for f in stream.codec_context.decode(p)]
    assert mine == theirs
    assert len(mine) == 40


@pytest.mark.parametrize("codec", list(hardware.NVDEC_DECODERS))
def test_trying_a_card(card: FakeCard, codec: str) -> None:
    assert hardware.try_decoder(codec) is None
    card.faults = Faults(drop={2})
    assert hardware.try_decoder(codec) == "5 of 6 pictures came out"
    card.faults = Faults(software={5})
    assert hardware.try_decoder(codec) == "the decoder took software"
    card.faults = Faults(wrong={4})
    assert hardware.try_decoder(codec) == "its pictures are not those that software decodes"


def test_trying_a_card_that_fails(card: FakeCard) -> None:
    card.faults = Faults(refuse={1})
    assert hardware.try_decoder("h264") == "Generic error in an external library"
    card.faults = Faults()
    Unwrapping.broken = True
    assert "cannot be read from the card" in str(hardware.try_decoder("h264"))


def test_a_card_that_does_not_open_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "opening_failure", lambda device: f"no device {device}")
    monkeypatch.setattr(machine, "try_decoder", lambda codec, device: pytest.fail("must not be tried"))
    states = machine.card_decoders(device=2)
    assert {(state.works, state.reason) for state in states} == {(False, "no device 2")}
    assert [state.codec for state in states] == list(hardware.NVDEC_DECODERS)


def test_every_codec_is_tried_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "opening_failure", lambda device: None)
    monkeypatch.setattr(machine, "try_decoder", lambda codec, device: "too new" if codec == "av1" else None)
    works = {state.codec: (state.works, state.reason) for state in machine.card_decoders()}
    assert works == {"h264": (True, ""), "hevc": (True, ""), "av1": (False, "too new"), "vp9": (True, "")}


def test_a_card_refuses_codecs_it_was_not_made_for(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.ts", *moving(seconds=0.2), "-c:v", "mpeg2video")
    with av.open(str(path)) as container, pytest.raises(DeviceError, match="mpeg2video is not decoded on a card"):
        Card().open(container.streams.video[0])

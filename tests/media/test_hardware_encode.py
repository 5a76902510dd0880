"""Frames on a card reach the encoder as they are where it can read them, and every other encoder all the same.

Planes come by DLPack. PyAV imports main memory the same way as a card's, so layout and strides are proved with real
tensors and software encoders; what NVENC gets is recorded by a fake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from fakecard import CudaPlane
from making import BT709, constant

from streamlight.errors import DeviceError, MediaError
from streamlight.media import encode, nvenc, segments
from streamlight.media.encode import EncoderPlan, EncodeSettings, plan_encoder, plan_for
from streamlight.media.frame import ColorSpec, Frame
from streamlight.media.nvenc import device_refusal, takes_device_frames
from streamlight.media.packer import FramePacker
from streamlight.media.segments import SegmentReader, SegmentWriter

EIGHT = ColorSpec(tags=BT709)
TEN = ColorSpec(bit_depth=10, tags=BT709)
FULL = ColorSpec(range="full", tags=(1, 2, 1, 1))


def one_piece(frame: Frame, *, pitch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The frame's planes as NVENC reads them, in one allocation; rows ``pitch`` samples apart."""
    luma, blue, red = frame.planes
    height, width = luma.shape
    shift = 6 if frame.color.bit_depth == 10 else 0
    memory = torch.zeros((height * 3 // 2, pitch or width), dtype=torch.uint16 if shift else torch.uint8)
    y, uv = memory[:height, :width], memory[height:, :width].unflatten(1, (width // 2, 2))
    y.copy_(torch.from_numpy(luma << shift))
    uv.copy_(torch.from_numpy(np.stack([blue, red], -1) << shift))
    return y, uv


def write(path: Path, plan: EncoderPlan, frames: list[Frame]) -> list[tuple[int, int, bytes]]:
    with SegmentWriter(path, plan) as writer:
        for frame in frames:
            writer.write(frame)
        writer.close()
    return [(packet.pts, packet.duration, packet.data) for packet in SegmentReader(path).packets()]


def arranged(frames: list[Frame], arrange: Any) -> list[Frame]:
    return [dataclasses.replace(frame, planes=arrange(frame), notes={}) for frame in frames]


ARRANGED = {
    "one piece": one_piece,
    "padded rows": lambda frame: one_piece(frame, pitch=128),
    "two pieces": lambda frame: tuple(plane.clone() for plane in one_piece(frame)),
    "numpy": lambda frame: tuple(plane.numpy() for plane in one_piece(frame)),
}


@pytest.mark.parametrize("arrangement", list(ARRANGED))
@pytest.mark.parametrize(
    ("color", "codec"), [(EIGHT, "h264"), (TEN, "h264"), (FULL, "h264"), (TEN, "av1"), (EIGHT, "prores")]
)
def test_interleaved_chroma_gives_the_same_bits(tmp_path: Path, color: ColorSpec, codec: Any, arrangement: str) -> None:
    frames = constant(6, color=color)
    settings = EncodeSettings(codec=codec, preset="12" if codec == "av1" else None)
    plan = plan_encoder(settings, frames[0], container="x.mov" if codec == "prores" else "x.mkv")
    expected = write(tmp_path / "a.seg", plan, frames)
    assert write(tmp_path / "b.seg", plan, arranged(frames, ARRANGED[arrangement])) == expected


def test_padded_pictures_are_filled_from_them_too(tmp_path: Path) -> None:
    """Where the coded size is larger than the frames, as some encoders need it."""
    frames = constant(3, width=62, height=46)
    plan = dataclasses.replace(plan_encoder(EncodeSettings(), frames[0], container="x.mkv"), width=64, height=48)
    expected = write(tmp_path / "a.seg", plan, frames)
    assert write(tmp_path / "b.seg", plan, arranged(frames, one_piece)) == expected


def test_captions_go_along(tmp_path: Path) -> None:
    from readclips import read
    from test_write_picture import captioned

    from streamlight.media import open_source

    path = tmp_path / "a.h264"
    count = captioned(path)
    with open_source(path) as source:
        frames = list(source.frames())
    assert len(frames) == count == len(read(path))
    plan = plan_encoder(EncodeSettings(), frames[0], container="x.mkv")
    expected = write(tmp_path / "a.seg", plan, frames)
    assert write(tmp_path / "b.seg", plan, arranged(frames, one_piece)) == expected
    with SegmentWriter(tmp_path / "c.seg", plan) as writer:
        for frame in arranged(frames, one_piece):
            writer.write(frame)
        assert writer.close().captions == count


@pytest.mark.parametrize(
    ("planes", "text"),
    [
        ((torch.zeros(48, 64, dtype=torch.uint8), torch.zeros(24, 32, 3, dtype=torch.uint8)), "nv12"),
        ((torch.zeros(48, 64, dtype=torch.uint8), torch.zeros(24, 30, 2, dtype=torch.uint8)), "nv12"),
        ((torch.zeros(48, 64), torch.zeros(24, 32, 2)), "dtype"),
        ((torch.zeros(48, 128, dtype=torch.uint8)[:, ::2], torch.zeros(24, 32, 2, dtype=torch.uint8)), "contiguous"),
    ],
)
def test_planes_laid_out_otherwise_are_refused(planes: Any, text: str) -> None:
    frame = constant(1)[0]
    packer = FramePacker(plan_encoder(EncodeSettings(), frame, container="x.mkv"))
    with pytest.raises(MediaError, match=f"frame 0: its planes are not nv12.*{text}|frame 0.*{text}"):
        packer.pack(dataclasses.replace(frame, planes=planes))


def test_other_layouts_do_not_come_interleaved() -> None:
    color = ColorSpec(chroma="444")
    frame = constant(1, color=color)[0]
    packer = FramePacker(plan_encoder(EncodeSettings(), frame, container="x.mkv"))
    planes: Any = (torch.zeros(48, 64, dtype=torch.uint8), torch.zeros(24, 32, 2, dtype=torch.uint8))
    with pytest.raises(MediaError, match="yuv444p cannot come as Y and interleaved CbCr"):
        packer.pack(dataclasses.replace(frame, planes=planes))


def test_the_writer_waits_until_planes_are_complete() -> None:
    frame = constant(1)[0]
    plan = _plan(frame)
    expected = [bytes(plane) for plane in FramePacker(plan).pack(frame).planes]
    y, uv = one_piece(frame)
    late = (torch.zeros_like(y), torch.zeros_like(uv))

    def complete() -> None:
        late[0].copy_(y)
        late[1].copy_(uv)

    given = dataclasses.replace(frame, planes=late, notes={"ready": SimpleNamespace(wait=complete)})  # type: ignore[arg-type]
    assert [bytes(plane) for plane in FramePacker(plan).pack(given).planes] == expected
    assert given.notes == {}


def _plan(frame: Frame) -> EncoderPlan:
    return plan_encoder(EncodeSettings(), frame, container="x.mkv")


# -- NVENC -------------------------------------------------------------------------------------------------------------


def nvenc_plan(color: ColorSpec = EIGHT, codec: str = "h264", **size: int) -> EncoderPlan:
    if not encode.encoder_exists(f"{codec}_nvenc"):
        pytest.skip("this build has no NVENC")
    return plan_for(f"{codec}_nvenc", codec, EncodeSettings(), constant(1, color=color, **size)[0], "x.mkv")


class FakeContext:
    """An encoder that takes everything and gives nothing back."""

    def __init__(self) -> None:
        self.flags = 0
        self.options: dict[str, str] = {}
        self.opened = 0
        self.pix_fmt = self.sw_format = ""

    def open(self) -> None:
        self.opened += 1


class FakePicture:
    """What ``from_dlpack`` makes of planes in CUDA memory."""

    def __init__(self, gap: int, row: int = 64) -> None:
        self.format = SimpleNamespace(name="cuda")
        self.planes = [SimpleNamespace(buffer_ptr=at, line_size=row) for at in (4096, 4096 + gap)]
        self.height = 48


class Recorder:
    """Stands in for the parts of PyAV that would need a card, and records what they get."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, gap: int = 48 * 64) -> None:
        self.context = FakeContext()
        self.imported: list[dict[str, Any]] = []
        self.encoded: list[Any] = []
        stream = SimpleNamespace(codec_context=self.context, encode=self._encode)
        template = SimpleNamespace(add_stream=lambda encoder, rate: stream)
        monkeypatch.setattr(segments.av, "open", lambda *arguments, **more: template)
        self._gap = gap
        self.real = av.VideoFrame

        class VideoFrame(SimpleNamespace):
            from_dlpack = staticmethod(self._import)

        monkeypatch.setattr(
            nvenc,
            "av",
            SimpleNamespace(VideoFrame=VideoFrame, FFmpegError=av.FFmpegError, CodecContext=av.CodecContext),
        )
        monkeypatch.setattr(nvenc, "CudaContext", lambda **more: SimpleNamespace(**more))
        self.current: list[int] = []
        monkeypatch.setattr(nvenc, "primary_context", self._enter)

    @contextmanager
    def _enter(self, index: int) -> Iterator[None]:
        self.current.append(index)
        yield
        self.current.append(-1)

    def _import(self, planes: Any, **more: Any) -> FakePicture:
        assert self.current[-1] == more["cuda_context"].device_id
        self.imported.append({"planes": planes, **more})
        return FakePicture(self._gap)

    def _encode(self, picture: Any) -> list[Any]:
        self.encoded.append(picture)
        return []


def on_cuda(frame: Frame, index: int = 0) -> Frame:
    planes: Any = (CudaPlane((48, 64), index), CudaPlane((24, 32, 2), index))
    return dataclasses.replace(frame, planes=planes, notes={})


@pytest.mark.parametrize(("color", "layout"), [(EIGHT, "nv12"), (TEN, "p010le"), (FULL, "nv12")])
def test_nvenc_gets_the_planes_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, color: ColorSpec, layout: str
) -> None:
    plan = nvenc_plan(color, "hevc")
    recorder = Recorder(monkeypatch)
    frames = [on_cuda(frame, 1) for frame in constant(4, color=color)]
    with SegmentWriter(tmp_path / "a.seg", plan) as writer:
        assert recorder.context.pix_fmt == ""
        for frame in frames:
            writer.write(frame)
    context = recorder.context
    assert (context.pix_fmt, context.sw_format) == ("cuda", layout)
    assert context.opened == 0  # the first picture opens it, as its pool is needed
    assert [given["planes"] for given in recorder.imported] == [frame.planes for frame in frames]
    assert {given["format"] for given in recorder.imported} == {layout}
    contexts = [given["cuda_context"] for given in recorder.imported]
    assert all(given is contexts[0] for given in contexts)
    assert vars(contexts[0]) == {"device_id": 1, "primary_ctx": False, "current_ctx": True}
    assert all(isinstance(picture, FakePicture) for picture in recorder.encoded)
    assert [picture.pts for picture in recorder.encoded] == [0, 3600, 7200, 10800]
    assert {picture.color_range for picture in recorder.encoded} == {2 if color is FULL else 1}


def test_nvenc_gets_host_frames_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    plan = nvenc_plan()
    frame = constant(1)[0]
    with SegmentWriter(tmp_path / "a.seg", plan) as writer:
        writer.write(frame)
    assert (recorder.context.pix_fmt, recorder.context.opened, recorder.imported) == (plan.pix_fmt, 1, [])
    (picture,) = recorder.encoded
    np.testing.assert_array_equal(picture.to_ndarray()[:48], frame.planes[0])


def test_planes_that_nvenc_would_misread_go_through_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks for chroma right behind luma, whatever address the picture gives."""
    Recorder(monkeypatch, gap=48 * 64 + 512)
    frame = on_cuda(constant(1)[0])
    packer = FramePacker(nvenc_plan())
    packer.on_card = True
    asked: list[Any] = []

    def reformat(picture: Any, **more: Any) -> av.VideoFrame:
        asked.append((picture.format.name, more["format"]))
        return av.VideoFrame(64, 48, more["format"])

    packer._reformatter = SimpleNamespace(reformat=reformat)  # type: ignore[assignment]
    assert packer.pack(frame).format.name == "yuv420p"
    assert asked == [("cuda", "yuv420p")]


def test_a_software_encoder_brings_them_to_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = constant(1)[0]
    plan = _plan(frame)
    Recorder(monkeypatch)
    packer = FramePacker(plan)
    real = av.VideoFrame(64, 48, "yuv420p")
    packer._reformatter = SimpleNamespace(reformat=lambda picture, **more: real)  # type: ignore[assignment]
    assert packer.pack(on_cuda(frame)) is real


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoder": "libx264"}, "libx264 encodes from main memory"),
        ({"source_format": "yuv444p", "pix_fmt": "yuv444p"}, "only after it was converted"),
        ({"source_format": "yuv420p10le"}, "64x48 yuv420p10le only after it was converted to yuv420p"),
        ({"source_width": 63}, "63x48"),
        ({"full_range": True}, "only after it was converted"),
    ],
)
def test_who_takes_frames_on_the_card(change: dict[str, Any], reason: str) -> None:
    plan = dataclasses.replace(nvenc_plan(), **change)
    assert reason in str(device_refusal(plan))
    assert not takes_device_frames(plan)


class Trial:
    """``CodecContext.create`` of an encoder on a card."""

    def __init__(self, *, error: Exception | None = None, packets: int = 1) -> None:
        self.context: Any = FakeContext()
        self.context.encode = lambda picture: [object()] * (packets if picture is not None else 0)
        self.error = error
        self.asked: list[Any] = []

    def create(self, name: str, mode: str, hwaccel: Any) -> Any:
        self.asked.append((name, hwaccel))
        if self.error is not None:
            raise self.error
        return self.context


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (Trial(), None),
        (Trial(packets=0), "h264_nvenc gives no packet for a picture on CUDA device 1"),
        (
            Trial(error=av.error.PermissionError(1, "Operation not permitted")),
            "h264_nvenc does not encode from CUDA device 1 (Operation not permitted)",
        ),
    ],
    ids=["works", "nothing", "refused"],
)
def test_an_encoder_is_tried_on_the_card_once(monkeypatch: pytest.MonkeyPatch, trial: Trial, reason: Any) -> None:
    nvenc._trial.cache_clear()
    monkeypatch.setattr(nvenc.av.CodecContext, "create", trial.create)
    monkeypatch.setattr(nvenc, "primary_context", lambda index: nullcontext())
    plan = nvenc_plan()
    assert device_refusal(plan, device=1) == reason
    assert takes_device_frames(dataclasses.replace(plan, fallbacks=("x",)), device=1) == (reason is None)
    assert [name for name, _ in trial.asked] == ["h264_nvenc"]
    assert trial.asked[0][1].device_id == 1
    assert trial.asked[0][1].options == {"primary_ctx": "0", "current_ctx": "1"}
    if reason is None:
        assert (trial.context.pix_fmt, trial.context.sw_format, trial.context.width) == ("cuda", "nv12", 64)
    nvenc._trial.cache_clear()


def refusing(plan: EncoderPlan, *, picture: bool = False) -> str | None:
    real = plan.encoder.startswith("lib")
    return None if real else f"Operation not permitted (it needs {encode._NEEDS['nvenc']})"


def test_a_card_without_an_encoder_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "encoder_exists", lambda name: name == "h264_nvenc")
    monkeypatch.setattr(encode, "try_encoder", refusing)
    frame = constant(1)[0]
    plan = plan_encoder(EncodeSettings(hardware="auto"), frame, container="x.mp4")
    assert plan.encoder == "libx264"
    assert len(plan.fallbacks) == 1
    assert "h264_nvenc" in plan.fallbacks[0]
    assert "data-centre cards such as A100, H100 and H200 have none" in plan.fallbacks[0]
    with pytest.raises(DeviceError, match="H200 have none"):
        plan_encoder(EncodeSettings(hardware="nvenc"), frame, container="x.mp4")


@pytest.mark.parametrize(("packets", "chosen"), [(1, "h264_nvenc"), (0, "libx264")])
def test_nvenc_is_chosen_where_a_picture_of_the_job_s_size_comes_out(
    monkeypatch: pytest.MonkeyPatch, packets: int, chosen: str
) -> None:
    real = av.CodecContext.create
    trial = Trial(packets=packets)
    monkeypatch.setattr(encode, "encoder_exists", lambda name: name == "h264_nvenc")
    created = lambda name, mode: trial.context if "nvenc" in name else real(name, mode)  # noqa: E731
    monkeypatch.setattr(encode.av.CodecContext, "create", created)
    frame = constant(1, width=320, height=64)[0]
    assert plan_encoder(EncodeSettings(hardware="auto"), frame, container="x.mp4").encoder == chosen
    assert (trial.context.width, trial.context.height) == (320, 64)
    assert trial.context.time_base == Fraction(1, 90000)

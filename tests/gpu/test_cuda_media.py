"""Real cards: what NVDEC gives is what software gives, and what NVENC reads is what lies there.

Everything is done after PyTorch has taken the card, as in a job.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from streamlight.evaluation.doctor import diagnose
from streamlight.media import hardware, open_source
from streamlight.media.encode import EncoderPlan, EncodeSettings, plan_encoder, try_encoder
from streamlight.media.frame import ColorSpec, Frame
from streamlight.media.nvenc import device_refusal
from streamlight.media.segments import SegmentReader, SegmentWriter
from streamlight.media.surfaces import Surface

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

SIZES = [(320, 192), (1920, 1080)]
"""The second is coded with eight lines more than it shows."""


@pytest.fixture(autouse=True)
def taken() -> None:
    """PyTorch uses the card already."""
    torch.zeros(1, device="cuda:0").add_(1)
    torch.cuda.synchronize()


@pytest.fixture
def nvdec() -> None:
    reason = hardware.opening_failure() or hardware.try_decoder("h264")
    if reason is not None:
        pytest.skip(f"no NVDEC: {reason}")


def pictures(depth: int, size: tuple[int, int], count: int) -> Iterator[av.VideoFrame]:
    """Moving ramps with noise, planar."""
    rng = np.random.default_rng(depth)
    for number in range(count):
        picture = av.VideoFrame(*size, "yuv420p" if depth == 8 else "yuv420p10le")
        for plane in picture.planes:
            shape = (plane.height, plane.line_size // (1 if depth == 8 else 2))
            ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) + 5 * number + rng.integers(0, 9, shape)
            values = (ramp % 200 + 20) << (depth - 8)
            plane.update(values.astype(np.uint8 if depth == 8 else np.uint16).tobytes())
        picture.pts, picture.time_base = number, Fraction(1, 25)
        yield picture


def make(path: Path, encoder: str, depth: int, size: tuple[int, int], count: int = 40) -> Path:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(encoder, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p" if depth == 8 else "yuv420p10le"
        stream.gop_size = 12
        stream.options = {"preset": "10" if encoder == "libsvtav1" else "veryfast"}
        for picture in pictures(depth, size, count):
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def imported(surface: Surface) -> list[np.ndarray]:
    """Planes of a surface by way of PyTorch, as the upload stage makes them."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.default_stream())  # where the decoder works
    with torch.cuda.stream(side):
        luma, chroma = (torch.from_dlpack(plane) for plane in surface)
        planes = [luma.clone(), chroma[..., 0].clone(), chroma[..., 1].clone()]
    side.synchronize()  # before the surface may go back to the decoder
    return [plane.cpu().numpy() >> surface.shift for plane in planes]


@pytest.mark.usefixtures("nvdec")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("codec", "encoder", "depth"), [("h264", "libx264", 8), ("hevc", "libx265", 10), ("av1", "libsvtav1", 10)]
)
def test_frames_are_those_of_software(
    tmp_path: Path, codec: str, encoder: str, depth: int, size: tuple[int, int]
) -> None:
    reason = hardware.try_decoder(codec)
    if reason is not None:
        pytest.skip(f"no NVDEC for {codec}: {reason}")
    path = make(tmp_path / "a.mkv", encoder, depth, size)
    with open_source(path) as plain, open_source(path, hardware="nvdec", surfaces=True) as source:
        for reference, frame in zip(plain.frames(), source.frames(), strict=True):
            surface: Any = frame.planes
            assert isinstance(surface, Surface)
            assert (frame.index, frame.pts, frame.width, frame.height) == (reference.index, reference.pts, *size)
            for planes in (imported(surface), surface.to_host()):
                for plane, expected in zip(planes, reference.planes, strict=True):
                    np.testing.assert_array_equal(plane, expected)
    assert source.stats.hardware_frames == source.stats.frames == 40
    assert source.stats.fallbacks == []


@pytest.mark.usefixtures("nvdec")
def test_frames_brought_to_main_memory(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", "libx264", 8, SIZES[0])
    with open_source(path) as plain, open_source(path, hardware="nvdec") as source:
        for reference, frame in zip(plain.frames(), source.frames(), strict=True):
            for plane, expected in zip(frame.planes, reference.planes, strict=True):
                np.testing.assert_array_equal(plane, expected)
    assert source.stats.hardware_frames == 40


@pytest.mark.usefixtures("nvdec")
def test_more_frames_may_wait_than_the_decoder_has_surfaces(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", "libx264", 8, SIZES[0])
    with open_source(path, hardware="nvdec", surfaces=True) as source:
        waiting = list(source.frames())
    with open_source(path) as plain:
        for reference, frame in zip(plain.frames(), waiting, strict=True):
            np.testing.assert_array_equal(imported(frame.planes)[0], reference.planes[0])  # type: ignore[arg-type]


@pytest.mark.usefixtures("nvdec")
def test_memory_of_the_card_comes_back(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", "libx264", 8, SIZES[1])
    free = []
    for _ in range(4):
        with open_source(path, hardware="nvdec", surfaces=True) as source:
            assert sum(1 for _ in source.frames()) == 40
        free.append(torch.cuda.mem_get_info(0)[0])
    assert free[-1] > free[0] - (64 << 20), free


def test_hardware_auto_always_finds_an_encoder() -> None:
    frame = frames_of(ColorSpec(), (320, 192), 1)[0]
    plan = plan_encoder(EncodeSettings(hardware="auto"), frame, container="x.mp4")
    assert try_encoder(plan, picture=True) is None
    if not plan.encoder.endswith("_nvenc"):
        assert any("h264_nvenc" in text and "data-centre cards" in text for text in plan.fallbacks)


def frames_of(color: ColorSpec, size: tuple[int, int], count: int) -> list[Frame]:
    frames = []
    for index, picture in enumerate(pictures(color.bit_depth, size, count)):
        planes = tuple(
            np.frombuffer(plane, color.dtype).reshape(plane.height, -1)[:, : plane.width].copy()  # type: ignore[call-overload]
            for plane in picture.planes
        )
        frames.append(Frame(planes, color, pts=index * 3600, time_base=Fraction(1, 90000), index=index))
    return frames


def on_card(frame: Frame) -> Frame:
    """The frame as NVENC reads it, in one allocation on the card."""
    shift = 6 if frame.color.bit_depth == 10 else 0
    luma, blue, red = (plane.astype(np.int32) << shift for plane in frame.planes)
    chroma = np.stack([blue, red], -1).reshape(blue.shape[0], -1)
    memory = torch.from_numpy(np.concatenate([luma, chroma]).astype(frame.color.dtype)).cuda()
    height, width = luma.shape
    planes: Any = (memory[:height], memory[height:].unflatten(1, (width // 2, 2)))
    ready = torch.cuda.Event()
    ready.record()
    return dataclasses.replace(frame, planes=planes, notes={"ready": ready})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("codec", "color"), [("h264", ColorSpec()), ("hevc", ColorSpec()), ("hevc", ColorSpec(bit_depth=10))]
)
def test_nvenc_encodes_on_the_card_what_it_encodes_from_main_memory(
    tmp_path: Path, codec: Any, color: ColorSpec, size: tuple[int, int]
) -> None:
    frames = frames_of(color, size, 12)
    plan = plan_encoder(EncodeSettings(codec=codec, hardware="auto"), frames[0], container="x.mkv")
    refused = device_refusal(plan)
    if refused is not None:
        pytest.skip(refused)
    expected = written(tmp_path / "a.seg", plan, frames)
    given = written(tmp_path / "b.seg", plan, [on_card(frame) for frame in frames])
    assert [packet[0] for packet in given] == [packet[0] for packet in expected]
    assert given == expected


def test_a_software_encoder_takes_frames_on_the_card(tmp_path: Path) -> None:
    """They are brought to main memory on the way, to the same bits."""
    frames = frames_of(ColorSpec(), SIZES[0], 6)
    plan = plan_encoder(EncodeSettings(), frames[0], container="x.mkv")
    given = written(tmp_path / "a.seg", plan, [on_card(frame) for frame in frames])
    assert given == written(tmp_path / "b.seg", plan, frames)


def written(path: Path, plan: EncoderPlan, frames: list[Frame]) -> list[tuple[int, bytes]]:
    with SegmentWriter(path, plan) as writer:
        for frame in frames:
            writer.write(frame)
        writer.close()
    return [(packet.pts, packet.data) for packet in SegmentReader(path).packets()]


def test_the_doctor_tries_every_card() -> None:
    found = diagnose()
    cards = [device for device in found.devices if device.name.startswith("cuda:")]
    assert [card.name for card in cards] == [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    assert all(card.usable and card.memory_bytes and card.capability for card in cards), cards
    assert all(state.works or state.reason for state in found.media.card_decoders)

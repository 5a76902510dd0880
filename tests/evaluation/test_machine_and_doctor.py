from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from streamlight.cli.doctor import _show
from streamlight.evaluation import doctor
from streamlight.evaluation.doctor import Device, _advice, diagnose
from streamlight.evaluation.machine import describe_machine
from streamlight.media.machine import Capabilities, CardDecoder, EncoderCapability


def test_machine_names_hardware_and_versions_only() -> None:
    machine = describe_machine()
    assert 1 <= machine.cores <= machine.cores_online
    assert machine.memory_bytes > 1 << 28
    assert machine.python.count(".") >= 1
    assert {"streamlight", "av", "torch", "numba", "opencv-python-headless", "ffmpeg"} <= set(machine.versions)
    text = json.dumps(machine.to_dict())
    assert os.getcwd() not in text
    for name in (socket.gethostname(), getpass.getuser()):
        assert len(name) < 5 or name not in text


def test_doctor_tries_encoders_instead_of_trusting_names() -> None:
    """A name in libavcodec's list that does not open is reported as such, with the reason."""
    found = diagnose()
    states = {state.encoder: state for state in found.media.encoders}
    assert states["libx264"].opens
    assert found.devices[0].name == "cpu"
    assert found.devices[0].usable
    assert "retinex" in found.models
    for state in states.values():
        assert state.opens != bool(state.reason)


def test_advice_names_what_is_missing() -> None:
    found = diagnose()
    broken = [replace(s, opens=False, reason="gone") if s.encoder == "libx264" else s for s in found.media.encoders]
    media = replace(found.media, encoders=tuple(broken), missing_decoders=("hevc",))
    advice = " ".join(_advice(replace(found.machine, memory_bytes=1 << 29), media, found.devices))
    assert "No encoder for h264" in advice
    assert "hevc cannot be read" in advice
    assert "2 GiB" in advice


# -- cards, which are not here ---------------------------------------------------------------------------------------

H200 = Device("cuda:0", "NVIDIA H200", 140 << 30, True, capability="9.0", free_bytes=139 << 30)
RTX = Device("cuda:0", "NVIDIA GeForce RTX 4070", 12 << 30, True, capability="8.9", free_bytes=11 << 30)
CPU = Device("cpu", "a processor", 24 << 30, True)


def media(*, nvenc: bool = False, nvdec: tuple[str, ...] = ("h264", "hevc", "av1", "vp9"), cuda: bool = True) -> Any:
    """Capabilities of a machine with a card."""
    encoders = [EncoderCapability("h264", "libx264", False, True, "", (), ())]
    reason = "" if nvenc else "Operation not permitted"
    encoders.append(EncoderCapability("h264", "h264_nvenc", True, nvenc, reason, (), ()))
    cards = [CardDecoder(name, name in nvdec, "" if name in nvdec else "no libnvcuvid") for name in ("h264", "av1")]
    devices = ("cuda",) if cuda else ("vaapi",)
    return Capabilities(tuple(encoders), (), (), devices, (), tuple(cards))


def advice(*devices: Device, **what: Any) -> list[str]:
    machine = replace(describe_machine(), memory_bytes=24 << 30)
    return _advice(machine, media(**what), [CPU, *devices])


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing but what a test takes away is missing."""
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("CC", "cc")


@pytest.mark.usefixtures("whole")
def test_a_card_that_lacks_nothing_needs_no_advice() -> None:
    assert advice(RTX, nvenc=True) == []


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("device", "what", "expected"),
    [
        (H200, {}, "NVIDIA H200 has no video encoder, like all cards of its class"),
        (replace(H200, description="NVIDIA A100-SXM4-80GB"), {}, "A100-SXM4-80GB has no video encoder"),
        (RTX, {}, "NVENC does not open, so video is encoded on the CPU (Operation not permitted)"),
        (replace(RTX, description="NVIDIA A10"), {}, "NVENC does not open"),
        (RTX, {"nvenc": True, "nvdec": ()}, "NVDEC does not open, so video is decoded on the CPU (no libnvcuvid)"),
        (RTX, {"nvenc": True, "nvdec": ("h264",)}, "This card does not decode av1"),
        (RTX, {"nvenc": True, "cuda": False}, "PyAV was made without CUDA"),
        (replace(RTX, memory_bytes=2 << 30), {"nvenc": True}, "has less than 4 GiB of memory"),
        (replace(RTX, free_bytes=1 << 29), {"nvenc": True}, "has less than 1 GiB free"),
        (replace(RTX, usable=False, reason="no kernel image"), {"nvenc": True}, "does not compute: no kernel image"),
    ],
)
def test_one_sentence_for_what_a_card_lacks(device: Device, what: dict[str, Any], expected: str) -> None:
    (sentence,) = advice(device, **what)
    assert expected in sentence
    assert sentence.endswith(".")


def test_triton_and_its_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    (sentence,) = advice(RTX, nvenc=True)
    assert "Triton is missing" in sentence
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    (sentence,) = advice(RTX, nvenc=True)
    assert "no C compiler" in sentence
    assert not any("Triton" in text for text in advice())


@pytest.mark.parametrize(
    ("cuda", "driver", "expected"),
    [
        (None, False, "This is PyTorch's CPU build"),
        ("12.8", False, "finds no NVIDIA driver"),
        ("12.8", True, "new enough for CUDA 12.8"),
    ],
)
def test_why_there_is_no_card(monkeypatch: pytest.MonkeyPatch, cuda: Any, driver: bool, expected: str) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor, "has_driver", lambda: driver)
    first, second = advice()
    assert expected in first
    assert "No hardware encoder opens" in second


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch with two cards, the second of which is too old."""
    properties = [
        SimpleNamespace(name="NVIDIA H200", total_memory=140 << 30, major=9, minor=0),
        SimpleNamespace(name="Tesla K80", total_memory=12 << 30, major=3, minor=7),
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (10 << 30, 12 << 30))
    monkeypatch.setattr("streamlight.enhance.build_enhancer", lambda device: SimpleNamespace(close=lambda: None))

    def compute(device: str) -> bool:
        if device == "cuda:1":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with ...")
        return True

    monkeypatch.setattr(doctor, "_computes", compute)


@pytest.mark.usefixtures("two_cards", "whole")
def test_every_card_is_listed_and_tried(capsys: pytest.CaptureFixture[str]) -> None:
    found = diagnose()
    first, second = found.devices[1:]
    assert (first.name, first.description, first.capability, first.usable) == ("cuda:0", "NVIDIA H200", "9.0", True)
    assert (first.memory_bytes, first.free_bytes) == (140 << 30, 10 << 30)
    assert (second.name, second.usable) == ("cuda:1", False)
    assert second.reason == "CUDA error: no kernel image is available for execution on the device"
    assert any("cuda:1 (Tesla K80, compute capability 3.7) is there, but does not compute" in t for t in found.advice)
    _show(found)
    text = capsys.readouterr().out
    assert "cuda:0: NVIDIA H200, 140 GiB, compute capability 9.0\n" in text
    assert "(not used: CUDA error: no kernel image" in text
    assert json.loads(json.dumps(found.to_dict()))["devices"][1]["capability"] == "9.0"


def test_a_computation_is_really_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._computes("cpu")
    assert doctor._refusal("cpu") == ""
    monkeypatch.setattr(torch, "ones", lambda *size, device: torch.zeros(*size, device=device))
    assert doctor._refusal("cpu") == "a small computation came out wrong"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_gives_a_reason() -> None:
    assert doctor._refusal("cuda:0")


def test_decoding_on_a_card_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = replace(diagnose(), media=media(nvdec=("h264",)))
    _show(found)
    text = capsys.readouterr().out
    assert "decodes on GPU  h264\n" in text
    assert "nvdec (av1): no libnvcuvid" in text


def test_command_prints_text_and_json() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "streamlight", "doctor"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "libx264 (software, 8 and 10 bit) into .mp4" in text.stdout
    data = subprocess.run(
        [sys.executable, "-m", "streamlight", "doctor", "--json"], capture_output=True, check=True, timeout=120
    )
    assert json.loads(data.stdout)["machine"]["versions"]["av"] in text.stdout
    assert data.stderr == b""

"""What this machine can do, and what to install for more."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from streamlight.evaluation.machine import Machine, describe_machine
from streamlight.media.cudadriver import has_driver
from streamlight.media.machine import Capabilities, capabilities
from streamlight.models import cards

ENOUGH_MEMORY = 2 << 30
ENOUGH_DEVICE_MEMORY = 4 << 30
ENOUGH_FREE_MEMORY = 1 << 30

_WITHOUT_ENCODER = re.compile(r"\b(A30|A100|A800|H20|H100|H200|H800|GH200|B100|B200|B300|GB200|GB300)\b")
"""Cards for data centres that decode video, but have no encoder."""

_WHEEL = "install the binary wheel of PyAV (pip install --only-binary av av)"
_CONTAINER = "in a container, NVIDIA_DRIVER_CAPABILITIES must name 'video'"


@dataclass(frozen=True, slots=True)
class Device:
    """Something to compute on.

    Attributes:
        name: As ``--device`` takes it.
        description: What it is.
        memory_bytes: Its memory; 0 where unknown.
        usable: Whether the enhancement runs on it; tried with a small computation.
        reason: Why it does not, else ``""``.
        capability: Compute capability of a CUDA device such as ``"9.0"``, else ``""``.
        free_bytes: Memory that no program uses; 0 where unknown.
    """

    name: str
    description: str
    memory_bytes: int
    usable: bool
    reason: str = ""
    capability: str = ""
    free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings of the doctor.

    Attributes:
        machine: Processor, memory, system, versions.
        devices: What can be computed on.
        media: Encoders and decoding on a card (both tried), decoders, containers.
        models: Names of the models that ``--model`` takes.
        advice: What to install or change for more, one sentence each; empty when nothing is missing.
    """

    machine: Machine
    devices: list[Device]
    media: Capabilities
    models: list[str]
    advice: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Look at this machine. Takes a few seconds and changes nothing."""
    machine, media = describe_machine(), capabilities()
    devices = [Device("cpu", f"{machine.cpu}, {machine.cores} cores", machine.memory_bytes, True), *_cuda_devices()]
    return Diagnosis(machine, devices, media, [card.name for card in cards()], _advice(machine, media, devices))


def _cuda_devices() -> list[Device]:
    import torch

    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        name = f"cuda:{index}"
        properties = torch.cuda.get_device_properties(index)
        reason = _refusal(name)
        capability = f"{properties.major}.{properties.minor}"
        memory, free = int(properties.total_memory), _free_memory(index)
        found.append(Device(name, properties.name, memory, not reason, reason, capability, free))
    return found


def _free_memory(index: int) -> int:
    import torch

    try:
        return int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        return 0


def _refusal(device: str) -> str:
    """Why nothing can be computed on a device, in words; ``""`` if a small computation came out right."""
    from streamlight.enhance import build_enhancer
    from streamlight.errors import StreamlightError

    try:
        if not _computes(device):
            return "a small computation came out wrong"
        build_enhancer(device=device).close()
    except (RuntimeError, AssertionError, StreamlightError) as error:  # PyTorch's errors of a device are RuntimeErrors
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return ""


def _computes(device: str) -> bool:
    import torch

    ones = torch.ones(64, 64, device=device)
    return float((ones @ ones).sum()) == 64.0**3


def _advice(machine: Machine, media: Capabilities, devices: list[Device]) -> list[str]:
    cards = [device for device in devices if device.name.startswith("cuda")]
    advice = [*_software_advice(media)]
    if cards:
        advice += _card_advice(cards)
        advice += _card_media_advice(media, cards)
    else:
        advice += _no_card_advice()
    if not any(state.opens for state in media.encoders if state.hardware) and not cards:
        advice.append(
            "No hardware encoder opens, so video is encoded on the CPU. NVENC needs an NVIDIA driver, Quick Sync "
            "Intel's media driver, AMF AMD's, and a GPU that has an encoder."
        )
    if 0 < machine.memory_bytes < ENOUGH_MEMORY:
        advice.append("Less than 2 GiB of memory: 1080p jobs may not fit; --queue-frames 1 needs least.")
    return advice


def _software_advice(media: Capabilities) -> Iterator[str]:
    missing = [state.codec for state in media.encoders if not state.hardware and not state.opens]
    if missing:
        yield f"No encoder for {', '.join(missing)}: {_WHEEL}."
    if media.missing_decoders:
        yield f"{', '.join(media.missing_decoders)} cannot be read: {_WHEEL}."


def _no_card_advice() -> Iterator[str]:
    import torch

    if torch.version.cuda is None:
        yield (
            "This is PyTorch's CPU build: a GPU needs its CUDA build (choose CUDA on PyTorch's installation page) and "
            "an NVIDIA driver."
        )
    elif not has_driver():
        yield "PyTorch's CUDA build finds no NVIDIA driver: install it; a container must be started with its GPUs."
    else:
        yield (
            "PyTorch's CUDA build sees no GPU although there is a driver: see what nvidia-smi says, whether "
            f"CUDA_VISIBLE_DEVICES hides it, and whether the driver is new enough for CUDA {torch.version.cuda}."
        )


def _card_advice(cards: list[Device]) -> Iterator[str]:
    for card in cards:
        if not card.usable:
            yield (
                f"{card.name} ({card.description}, compute capability {card.capability}) is there, but does not "
                f"compute: {card.reason}. Update the NVIDIA driver, or install a build of PyTorch made for this card."
            )
        elif 0 < card.memory_bytes < ENOUGH_DEVICE_MEMORY:
            yield (
                f"{card.name} ({card.description}) has less than 4 GiB of memory: llflow, glare and lldiffusion may "
                "not fit; a smaller --working-size needs less."
            )
        elif 0 < card.free_bytes < ENOUGH_FREE_MEMORY:
            yield f"{card.name} ({card.description}) has less than 1 GiB free: end what else runs on it."
    if importlib.util.find_spec("triton") is None:
        yield "Triton is missing, so slower PyTorch code does the work of its kernels: pip install triton."
    elif not (os.environ.get("CC") or any(shutil.which(name) for name in ("clang", "gcc"))):
        yield "Triton finds no C compiler, and its kernels do not start without: install gcc, or set CC to a compiler."


def _card_media_advice(media: Capabilities, cards: list[Device]) -> Iterator[str]:
    """What keeps video from staying on the card."""
    if not media.knows_cuda:
        yield (f"This build of PyAV was made without CUDA, so every frame goes through main memory: {_WHEEL}.")
        return
    refused = [state for state in media.card_decoders if not state.works]
    if refused and len(refused) == len(media.card_decoders):
        yield (
            f"NVDEC does not open, so video is decoded on the CPU ({refused[0].reason}): the driver must bring "
            f"libnvcuvid; {_CONTAINER}."
        )
    elif refused:
        yield f"This card does not decode {', '.join(state.codec for state in refused)}: the CPU does, by itself."
    nvenc = [state for state in media.encoders if state.encoder.endswith("_nvenc")]
    if any(state.opens for state in nvenc):
        return
    names = [card.description for card in cards if _WITHOUT_ENCODER.search(card.description)]
    if names:
        yield (
            f"{names[0]} has no video encoder, like all cards of its class (A100, H100, H200), so video is encoded on "
            "the CPU: nothing is wrong, and a faster --encoder-preset takes less of it."
        )
    elif nvenc:
        yield (
            f"NVENC does not open, so video is encoded on the CPU ({nvenc[0].reason}): the driver must bring "
            f"libnvidia-encode; {_CONTAINER}."
        )
    else:
        yield f"This build of PyAV has no NVENC, so video is encoded on the CPU: {_WHEEL}."

"""What this machine can do, and what to install for more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from streamlight.evaluation.machine import Machine, describe_machine
from streamlight.media.machine import Capabilities, capabilities
from streamlight.models import cards

ENOUGH_MEMORY = 2 << 30


@dataclass(frozen=True, slots=True)
class Device:
    """Something to compute on.

    Attributes:
        name: As ``--device`` takes it.
        description: What it is.
        memory_bytes: Its memory; 0 where unknown.
        usable: Whether the enhancement runs on it.
    """

    name: str
    description: str
    memory_bytes: int
    usable: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings of the doctor.

    Attributes:
        machine: Processor, memory, system, versions.
        devices: What can be computed on.
        media: Encoders (tried), decoders, containers.
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
        properties = torch.cuda.get_device_properties(index)
        found.append(Device(f"cuda:{index}", properties.name, int(properties.total_memory), _runs_on(f"cuda:{index}")))
    return found


def _runs_on(device: str) -> bool:
    from streamlight.enhance import build_enhancer
    from streamlight.errors import DeviceError

    try:
        build_enhancer(device=device).close()
    except DeviceError:
        return False
    return True


def _advice(machine: Machine, media: Capabilities, devices: list[Device]) -> list[str]:
    import torch

    advice = []
    missing = [state.codec for state in media.encoders if not state.hardware and not state.opens]
    if missing:
        advice.append(
            f"No encoder for {', '.join(missing)}: install the binary wheel of PyAV (pip install --only-binary av av)."
        )
    if media.missing_decoders:
        advice.append(f"{', '.join(media.missing_decoders)} cannot be read: install the binary wheel of PyAV.")
    if not any(state.opens for state in media.encoders if state.hardware):
        advice.append(
            "No hardware encoder opens, so video is encoded on the CPU. NVENC needs an NVIDIA driver, Quick Sync "
            "Intel's media driver, AMF AMD's, and a GPU that has an encoder."
        )
    if len(devices) == 1:
        if torch.version.cuda is None:
            advice.append("This is PyTorch's CPU build: a GPU needs its CUDA build (and an NVIDIA driver).")
        else:
            advice.append("PyTorch's CUDA build sees no GPU: check the NVIDIA driver.")
    for device in devices:
        if not device.usable:
            advice.append(f"{device.name} ({device.description}) is there, but the enhancement does not use it yet.")
    if 0 < machine.memory_bytes < ENOUGH_MEMORY:
        advice.append("Less than 2 GiB of memory: 1080p jobs may not fit; --queue-frames 1 needs least.")
    return advice

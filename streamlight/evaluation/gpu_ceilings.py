"""What a device can do at best: copies and matrix products, measured beside what is held against them."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import torch

from streamlight.evaluation.gpu_parts import Parts
from streamlight.evaluation.gpu_rows import GpuOrder

_GIB: Final = 1 << 30
_SIDE: Final = 8192


def measure_ceilings(order: GpuOrder, parts: Parts) -> None:
    """Copies on the device, to it and from it, and matrix products."""
    device = torch.device(order.device)
    parts.sample.notes |= describe_device(device)
    figures = parts.sample.figures
    size = (1 << 22) if order.quick else _GIB
    with parts.part("copy on the device"):
        figures["copy_device"] = 2e-9 * size / _copy_on_device(device, size)
    with parts.part("copies from and to the host"):
        size //= 4
        up, down = _copies(device, size)
        figures["copy_up"], figures["copy_down"] = 1e-9 * size / up, 1e-9 * size / down
    for dtype in dict.fromkeys(("bfloat16", order.dtype, "float32")):
        measure_product(order, parts, dtype)


def measure_product(order: GpuOrder, parts: Parts, dtype: str) -> None:
    """A large matrix product, as the figure ``product_…`` in TMAC/s."""
    with parts.part(f"product in {dtype}"):
        side = 256 if order.quick else _SIDE
        seconds = product_seconds(torch.device(order.device), getattr(torch, dtype), side)
        parts.sample.figures[f"product_{dtype}"] = 1e-12 * side**3 / seconds


def describe_device(device: torch.device) -> dict[str, Any]:
    """Its name and size, and the versions that drive it; a processor says that it is no card."""
    if device.type != "cuda":
        return {"device": f"{device}, not a card"}
    found = torch.cuda.get_device_properties(device)
    return {
        "device": found.name,
        "memory_bytes": found.total_memory,
        "multiprocessors": found.multi_processor_count,
        "compute_capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def finish(device: torch.device) -> None:
    """Wait until the device has done all it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(action: Callable[[], object], device: torch.device, *, runs: int = 9, times: int = 4) -> float:
    """Of one of ``times`` calls, which are waited for together; median of ``runs``, behind two of warming up."""
    for _ in range(2):
        action()
    finish(device)
    found = []
    for _ in range(runs):
        begin = time.perf_counter()
        for _ in range(times):
            action()
        finish(device)
        found.append((time.perf_counter() - begin) / times)
    return median(found)


@torch.inference_mode()
def product_seconds(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Seconds of a ``side``³ matrix product of random numbers."""
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return median_seconds(lambda: torch.mm(a, b, out=out), device)


@torch.inference_mode()
def _copy_on_device(device: torch.device, size: int) -> float:
    """Seconds of a copy of ``size`` bytes; pairs of buffers take turns, so that no cache serves them."""
    buffers = [torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(4)]

    def both() -> None:
        buffers[1].copy_(buffers[0])
        buffers[3].copy_(buffers[2])

    return median_seconds(both, device) / 2


@torch.inference_mode()
def _copies(device: torch.device, size: int) -> tuple[float, float]:
    """Seconds of a copy of ``size`` bytes to the device, and of one from it."""
    pinned = device.type == "cuda"
    host = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned).zero_() for _ in range(2)]
    there = [torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2)]

    def up() -> None:
        for near, far in zip(host, there, strict=True):
            far.copy_(near, non_blocking=True)

    def down() -> None:
        for near, far in zip(host, there, strict=True):
            near.copy_(far, non_blocking=True)

    return median_seconds(up, device) / 2, median_seconds(down, device) / 2

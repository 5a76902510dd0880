"""Rings of host memory that pictures are sent from and received in: a fixed number of slots, used again and again."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamlight.engine.streams import Hardware, Mark
from streamlight.errors import DeviceError

TORCH_TYPES: dict[np.dtype[Any], torch.dtype] = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}
"""Types of samples."""

NUMPY_TYPES: dict[torch.dtype, np.dtype[Any]] = {kind: plain for plain, kind in TORCH_TYPES.items()}
"""The same the other way round."""

_ALIGNMENT = 256


@dataclass(slots=True)
class LinkStats:
    """What went over a link.

    Attributes:
        up: Pictures uploaded.
        down: Pictures downloaded.
        bytes_up: Their bytes.
        bytes_down: Likewise.
        surfaces: Pictures that were on the device already, from a decoder there.
        copied_out: Downloaded pictures that were copied once more, because consumers held on to too many.
        pinned: Bytes of host memory in the rings.
    """

    up: int = 0
    down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    surfaces: int = 0
    copied_out: int = 0
    pinned: int = 0


@dataclass(slots=True, eq=False)
class Slot:
    """A piece of host memory, and the mark behind which the last copy from or to it is done."""

    memory: Tensor
    mark: Mark | None = None


@dataclass(slots=True)
class Received:
    """A picture on its way down: its slot, and offset, shape and type of each plane in it."""

    slot: Slot
    planes: list[tuple[int, tuple[int, ...], np.dtype[Any]]]


class SendRing:
    """Slots in turn; one is written anew when its last copy is done."""

    def __init__(self, hardware: Hardware, count: int, stats: LinkStats) -> None:
        self._hardware = hardware
        self._slots = deque(Slot(torch.empty(0, dtype=torch.uint8)) for _ in range(count))
        self._stats = stats

    def slot(self, size: int) -> Slot:
        """The next slot, of ``size`` bytes at least."""
        slot = self._slots[0]
        self._slots.rotate(-1)
        if slot.mark is not None:
            slot.mark.wait()
        _fit(slot, size, self._hardware, self._stats)
        return slot


class ReceiveRing:
    """Slots that consumers may hold on to; they come back when nobody refers to their pictures any more.

    A consumer that keeps pictures for good costs a copy of each, never memory of the ring and never a standstill.
    """

    def __init__(self, hardware: Hardware, in_flight: int, lent: int, stats: LinkStats) -> None:
        self._hardware = hardware
        self._stats = stats
        # SimpleQueue.put may be called from a finaliser, also one that interrupts a get.
        self._free: SimpleQueue[Slot] = SimpleQueue()
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(in_flight + lent):
            self._free.put(Slot(torch.empty(0, dtype=torch.uint8)))
        for _ in range(lent):
            self._permits.put(None)

    def slot(self, size: int) -> Slot:
        """A slot that nobody holds, of ``size`` bytes at least."""
        slot = self._free.get()  # never waits long: beyond those that are lent there are as many as are under way
        _fit(slot, size, self._hardware, self._stats)
        return slot

    def finish(self, received: Received) -> tuple[np.ndarray, ...]:
        """The planes, once they have arrived."""
        slot = received.slot
        assert slot.mark is not None
        slot.mark.wait()
        whole = slot.memory.numpy()
        planes = tuple(
            whole[offset : offset + _bytes(shape, dtype)].view(dtype).reshape(shape)
            for offset, shape, dtype in received.planes
        )
        if self._permits.empty():
            self._stats.copied_out += 1
            planes = tuple(plane.copy() for plane in planes)
            self._free.put(slot)
            return planes
        self._permits.get()
        # NumPy's views refer to the array that refers to the memory, so that one's end is the end of them all.
        weakref.finalize(whole, self._give_back, slot).atexit = False
        return planes

    def drop(self, received: Received | None) -> None:
        """Have the slot of a picture back that nobody wants any more."""
        if received is None:
            return
        try:
            if received.slot.mark is not None:
                received.slot.mark.wait()
        except DeviceError:
            pass  # told already, by what has led here
        finally:
            self._free.put(received.slot)

    def _give_back(self, slot: Slot) -> None:
        self._free.put(slot)
        self._permits.put(None)


def _fit(slot: Slot, size: int, hardware: Hardware, stats: LinkStats) -> None:
    if slot.memory.numel() < size:
        stats.pinned += size - slot.memory.numel()
        slot.memory = hardware.host_memory(size)


def _bytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape)) * dtype.itemsize


def layout_of(planes: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> tuple[list[tuple[int, int]], int]:
    """Offset and size of each plane in one piece of memory, and the size of the whole, in bytes."""
    places, offset = [], 0
    for shape, dtype in planes:
        count = _bytes(shape, dtype)
        places.append((offset, count))
        offset += -(-count // _ALIGNMENT) * _ALIGNMENT
    return places, offset

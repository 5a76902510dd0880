"""Frames handed to another process through shared memory: a few slots that both sides map.

The memory has no name in the file system, so nothing is left behind however the processes end.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamlight.media import ColorSpec, Frame

_ALIGN = 64


@dataclass(frozen=True, slots=True)
class FrameShape:
    """What decides how a frame lies in memory and how it is encoded.

    Attributes:
        width, height: Luma size in samples.
        color: How the planes are to be read.
    """

    width: int
    height: int
    color: ColorSpec

    @classmethod
    def of(cls, frame: Frame) -> FrameShape:
        """The shape of a frame."""
        return cls(frame.width, frame.height, frame.color)

    def planes(self) -> list[tuple[int, int]]:
        """``(rows, columns)`` of every plane; chroma of odd sizes is rounded up."""
        shift_x, shift_y = self.color.chroma_shift
        chroma = (-(-self.height >> shift_y), -(-self.width >> shift_x))
        return [(self.height, self.width)] + ([] if self.color.chroma == "400" else [chroma, chroma])

    @property
    def size(self) -> int:
        """Bytes of one slot."""
        item = self.color.dtype.itemsize
        return sum(_aligned(rows * columns * item) for rows, columns in self.planes())

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the other process."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FrameShape:
        """The inverse of `to_json`."""
        color = ColorSpec(**(data["color"] | {"tags": tuple(data["color"]["tags"])}))
        return cls(data["width"], data["height"], color)


class FrameRing:
    """Slots for frames in anonymous shared memory. Which slot belongs to whom is agreed by messages, not here.

    Args:
        slots: Number of slots.
        descriptor: Open descriptor of the memory that the other process made; None makes new memory.
    """

    def __init__(self, slots: int, *, descriptor: int | None = None) -> None:
        self.slots = slots
        self.descriptor = _new_memory() if descriptor is None else descriptor
        self.shape: FrameShape | None = None
        self._views: list[tuple[np.ndarray, ...]] = []

    def lay_out(self, shape: FrameShape) -> None:
        """Give every slot room for frames of this shape. No slot may be in use on either side.

        Raises:
            OSError: There is not enough memory.
        """
        total = shape.size * self.slots
        if os.fstat(self.descriptor).st_size < total:
            os.ftruncate(self.descriptor, total)
        memory = mmap.mmap(self.descriptor, total)  # unmapped with the last view into it
        self._views = [_slot_views(memory, slot * shape.size, shape) for slot in range(self.slots)]
        self.shape = shape

    def planes(self, slot: int) -> tuple[np.ndarray, ...]:
        """The planes of a slot: writable ``(H, W)`` views, uint8 or uint16."""
        return self._views[slot]

    def close(self) -> None:
        """Let go of the memory; it is freed when both sides have."""
        self._views = []
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _slot_views(memory: mmap.mmap, offset: int, shape: FrameShape) -> tuple[np.ndarray, ...]:
    views = []
    for rows, columns in shape.planes():
        views.append(np.ndarray((rows, columns), shape.color.dtype, memory, offset))
        offset += _aligned(views[-1].nbytes)
    return tuple(views)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _new_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("streamlight-frames", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix=".streamlight-") as file:  # a file without a name serves as well
        return os.dup(file.fileno())

"""The way of pictures to a device and back: rings of host memory, copies in lanes of their own, marks between them.

Decoder → host ring → upload lane → compute lane → download lane → host ring → encoder. Each arrow is a mark that the
next lane waits for; the host waits only where it is about to touch memory that a copy still uses. How much is under way
has a bound in every place: the rings do not grow in number, and queues between the stages hold what their sizes say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from streamlight.engine.pipeline import Stage, StageFunction
from streamlight.engine.rings import NUMPY_TYPES, TORCH_TYPES, LinkStats, Received, ReceiveRing, SendRing, layout_of
from streamlight.engine.streams import Hardware, Lane, Mark, faults_of, hardware_of
from streamlight.engine.timeline import Timeline

IN_FLIGHT = 3
"""Pictures that may be under way between the host and the device, in each direction."""

LENT = 8
"""Pictures whose consumers may hold on to the memory that they were downloaded to."""

_PICTURES = "pictures on their way"


class HasPlanes(Protocol):
    """What travels: anything with planes."""

    planes: Any


T = TypeVar("T", bound=HasPlanes)


class DevicePlanes(tuple[Tensor, ...]):
    """Planes of one picture on a device, and the mark behind which they are complete.

    Each ``(H, W)`` uint8 or uint16 with the value in the low bits.
    """

    mark: Mark | None

    def __new__(cls, planes: Iterable[Tensor], mark: Mark | None = None) -> DevicePlanes:
        """Planes that are complete behind ``mark``."""
        made = super().__new__(cls, planes)
        made.mark = mark
        return made


@dataclass(frozen=True, slots=True)
class Told:
    """A small value on its way to the host.

    Attributes:
        value: On the host; valid once :attr:`mark` is done.
        mark: Behind the copy.
    """

    value: Tensor
    mark: Mark


class Link:
    """Moves planes between the host and one device.

    ``upload`` and ``download`` are stages for threads of their own; :meth:`to_device` and :meth:`to_host` do the same
    for one picture at a time. One thread at a time may upload, one compute, one download.

    Page-locked memory is that of ``2 · in_flight + lent`` pictures at most. On the device there are as many pictures as
    the queues between the stages hold, ``in_flight`` on their way down, and one in each stage.

    Args:
        device: Where to.
        in_flight: Pictures under way in each direction, at least 1.
        lent: Downloaded pictures whose memory consumers may hold on to; more of them are copied out of the ring.
        hardware: What drives the device; found by its type if None.

    Attributes:
        device: Where to.
        stats: What went over it.
        timeline: Where the work of each lane is noted, if anywhere.

    Raises:
        ValueError: ``in_flight`` is below 1 or ``lent`` negative.
        DeviceError: From all that moves pictures: the device has failed, or has no memory for them.
    """

    def __init__(
        self, device: torch.device, *, in_flight: int = IN_FLIGHT, lent: int = LENT, hardware: Hardware | None = None
    ) -> None:
        if in_flight < 1 or lent < 0:
            raise ValueError(f"in_flight must be at least 1 and lent 0 or more, got {in_flight} and {lent}")
        self.device = device
        self.in_flight = in_flight
        self.stats = LinkStats()
        self.timeline: Timeline | None = None
        self._hardware = hardware or hardware_of(device)
        self._up, self._compute, self._down = (self._hardware.lane() for _ in range(3))
        self._sending = SendRing(self._hardware, in_flight, self.stats)
        self._receiving = ReceiveRing(self._hardware, in_flight, lent, self.stats)
        self._surfaces: deque[tuple[Any, Mark]] = deque()

    def upload(self, items: Iterator[T]) -> Iterator[T]:
        """Stage: planes on the host become planes on the device; what is there already stays."""
        try:
            for item in items:
                item.planes = self.to_device(item.planes)
                yield item
                del item
        finally:
            self._release_surfaces(0)

    def download(self, items: Iterator[T]) -> Iterator[T]:
        """Stage: planes on the device become planes on the host, the copy of one beside the wait for the one before."""
        waiting: deque[tuple[T, Received | None]] = deque()
        try:
            for item in items:
                waiting.append((item, self._start(item.planes)))
                del item
                if len(waiting) >= self.in_flight:
                    yield self._finish(waiting)
            while waiting:
                yield self._finish(waiting)
        finally:
            for _, received in waiting:
                self._receiving.drop(received)

    def pack(self, items: Iterator[T]) -> Iterator[T]:
        """Stage: Y, Cb and Cr on the device become Y and interleaved CbCr in one piece of memory there, as encoders of
        a card read them: NV12, or P010, with ten bits in the high ones of sixteen.

        Items must have ``notes``; ``notes["ready"]`` gets the mark behind which the planes are complete.
        """
        for item in items:
            planes: DevicePlanes = item.planes
            with faults_of(self.device, memory=_PICTURES), self._down.running(), self._noted("pack", self._down):
                self._down.after(planes.mark)
                item.planes = _semi_planar(planes)
                for plane in planes:
                    self._down.keep(plane)
            item.notes["ready"] = self._down.mark()  # type: ignore[attr-defined]
            yield item
            del item

    def to_device(self, planes: Any) -> DevicePlanes:
        """Planes of a picture on the device; returns before the copy is done.

        Args:
            planes: ``(H, W)`` arrays, uint8 or uint16, rows possibly padded; or a surface of a decoder on this device
                (anything with ``layout``, ``shift`` and ``planes`` that speak DLPack).
        """
        if isinstance(planes, DevicePlanes):
            return planes
        if not isinstance(planes, tuple):
            return self._take_surface(planes)
        sizes, total = layout_of([(plane.shape, plane.dtype) for plane in planes])
        slot = self._sending.slot(total)
        host = slot.memory.numpy()
        for plane, (offset, count) in zip(planes, sizes, strict=True):
            target = host[offset : offset + count].view(plane.dtype).reshape(plane.shape)
            np.copyto(target, plane)
        with faults_of(self.device, memory=_PICTURES), self._up.running(), self._noted("upload", self._up):
            whole = torch.empty(total, dtype=torch.uint8, device=self.device)
            self._hardware.copy(slot.memory[:total], whole)
            slot.mark = self._up.mark()
        self.stats.up += 1
        self.stats.bytes_up += total
        tensors = (
            whole[offset : offset + count].view(TORCH_TYPES[plane.dtype]).view(plane.shape)
            for plane, (offset, count) in zip(planes, sizes, strict=True)
        )
        return DevicePlanes(tensors, slot.mark)

    def to_host(self, *pictures: DevicePlanes) -> list[tuple[np.ndarray, ...]]:
        """Planes of pictures on the host; waits for them."""
        found: list[tuple[np.ndarray, ...]] = []
        waiting: deque[Received] = deque()
        for planes in pictures:
            waiting.append(self._receive(planes))
            if len(waiting) >= self.in_flight:
                found.append(self._receiving.finish(waiting.popleft()))
        found += [self._receiving.finish(one) for one in waiting]
        return found

    @contextmanager
    def computing(self, *pictures: DevicePlanes) -> Iterator[None]:
        """Inside, work goes into the compute lane, behind the uploads of ``pictures``.

        Memory of the pictures is not reused before that work is done.
        """
        with self._compute.running():
            for planes in pictures:
                self._compute.after(planes.mark)
            try:
                with self._noted("compute", self._compute):
                    yield
            finally:
                for planes in pictures:
                    for plane in planes:
                        self._compute.keep(plane)

    def computed(self, planes: Sequence[Tensor]) -> DevicePlanes:
        """Planes that the compute lane has been asked for, to be downloaded or worked on further."""
        return DevicePlanes(planes, self._compute.mark())

    def tell(self, value: Tensor) -> Told:
        """Have a small tensor of the compute lane told to the host, which does not wait for it.

        Call it while :meth:`computing`.
        """
        slot = self._hardware.host_memory(value.numel() * value.element_size())
        target = slot.view(value.dtype).view(value.shape)
        self._hardware.copy(value, target)
        return Told(target, self._compute.mark())

    def account(self) -> dict[str, Any]:
        """What went over the link so far, and the most memory of the device that was in use, where that is known."""
        found: dict[str, Any] = {"device": str(self.device), **asdict(self.stats)}
        if self.device.type == "cuda":
            found["name"] = torch.cuda.get_device_name(self.device)
            found["peak_memory_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return found

    def base_mark(self) -> Mark:
        """A mark of this moment, which the device has come to when this returns; spans are measured from it."""
        mark = self._compute.mark()
        mark.wait()
        return mark

    def _noted(self, name: str, lane: Lane) -> AbstractContextManager[None]:
        return nullcontext() if self.timeline is None else self.timeline.on_device(name, lane)

    def _take_surface(self, surface: Any) -> DevicePlanes:
        """Planes of a decoder's surface, copied on the device: its pool is small, and it is wanted back soon."""
        with faults_of(self.device, memory=_PICTURES), self._up.running(), self._noted("take in", self._up):
            self._up.after(self._hardware.foreign())
            tensors = [_planar(part, surface.shift) for part in _parts(surface)]
            mark = self._up.mark()
        self.stats.surfaces += 1
        self._surfaces.append((surface, mark))
        self._release_surfaces(1)
        return DevicePlanes(tensors, mark)

    def _release_surfaces(self, keep: int) -> None:
        while len(self._surfaces) > keep:
            self._surfaces[0][1].wait()
            self._surfaces.popleft()

    def _start(self, planes: Any) -> Received | None:
        return self._receive(planes) if isinstance(planes, DevicePlanes) else None

    def _receive(self, planes: DevicePlanes) -> Received:
        shapes = [(tuple(plane.shape), NUMPY_TYPES[plane.dtype]) for plane in planes]
        places, total = layout_of(shapes)
        slot = self._receiving.slot(total)
        received = Received(slot, [(offset, *shape) for (offset, _), shape in zip(places, shapes, strict=True)])
        try:
            with faults_of(self.device, memory=_PICTURES), self._down.running():
                self._down.after(planes.mark)
                with self._noted("download", self._down):
                    for plane, (offset, count) in zip(planes, places, strict=True):
                        target = slot.memory[offset : offset + count].view(plane.dtype).view(plane.shape)
                        self._hardware.copy(plane.contiguous(), target)
                        self._down.keep(plane)
                slot.mark = self._down.mark()
        except BaseException:
            self._receiving.drop(received)
            raise
        self.stats.down += 1
        self.stats.bytes_down += total
        return received

    def _finish(self, waiting: deque[tuple[T, Received | None]]) -> T:
        item, received = waiting[0]
        if received is not None:
            item.planes = self._receiving.finish(received)
        waiting.popleft()
        return item


def across(
    stage: Stage, link: Link | None, *, back: StageFunction | None = None, then: StageFunction | None = None
) -> list[Stage]:
    """A stage with the way to a device in front of it and the way back behind it, each on a thread of its own.

    Args:
        stage: Works on the device.
        link: To it; None where the stage works on the host, and is all there is.
        back: The way back; ``link.download`` if None.
        then: What is done with the results on the host, in the thread that has them first.
    """
    if link is None:
        return [replace(stage, run=_chained(stage.run, then))]
    size = stage.queue_size
    return [
        Stage("upload", link.upload, size, stage.policy),
        replace(stage, policy="block"),
        Stage("download", _chained(back or link.download, then), size),
    ]


def _chained(first: StageFunction, then: StageFunction | None) -> StageFunction:
    return first if then is None else lambda items: then(first(items))


def _parts(surface: Any) -> list[Tensor]:
    """Y, Cb and Cr of a surface, as views into its memory."""
    luma, *chroma = (torch.from_dlpack(plane) for plane in surface.planes)
    if surface.layout in ("nv12", "p010"):
        return [luma, chroma[0][..., 0], chroma[0][..., 1]]
    return [luma, *chroma]


def _semi_planar(planes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Y ``(H, W)`` and CbCr ``(H / 2, W / 2, 2)``, the second right behind the first; 10 bits go to the high ones."""
    luma, blue, red = planes
    height, width = luma.shape
    whole = torch.empty((height + height // 2, width), dtype=luma.dtype, device=luma.device)
    packed = whole[:height], whole[height:].view(height // 2, width // 2, 2)
    deep = luma.dtype != torch.uint8
    for target, plane in ((packed[0], luma), (packed[1][..., 0], blue), (packed[1][..., 1], red)):
        target.copy_((plane.to(torch.int32) << 6).to(plane.dtype) if deep else plane)
    return packed


def _planar(part: Tensor, shift: int) -> Tensor:
    """A plane of its own, contiguous, with the value in the low bits."""
    if shift == 0:
        return part.clone(memory_format=torch.contiguous_format)
    return (part.to(torch.int32) >> shift).to(torch.uint16)

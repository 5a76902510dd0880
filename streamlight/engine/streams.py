"""Work in order on a device: CUDA streams and events, or their absence.

The rest of the engine is written against three small protocols, so that it runs without a card (everything then happens
at once, in the calling thread) and can be tested against a device that is late with everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from streamlight.errors import DeviceError


class Mark(Protocol):
    """A point in the work of a lane."""

    def wait(self) -> None:
        """Block the calling thread until the device has come here. Other Python threads go on meanwhile."""
        ...

    def done(self) -> bool:
        """Whether the device has come here; never waits."""
        ...

    def since(self, earlier: Mark) -> float:
        """Seconds between two marks of one device that both have been waited for."""
        ...


class Lane(Protocol):
    """Pieces of work that a device does one after another; several lanes run at the same time."""

    def running(self) -> AbstractContextManager[None]:
        """Inside, what the calling thread asks of the device goes into this lane."""
        ...

    def after(self, mark: Mark | None) -> None:
        """What follows in this lane waits for ``mark``; the calling thread does not."""
        ...

    def mark(self) -> Mark:
        """Mark the end of what is in the lane now."""
        ...

    def keep(self, tensor: Tensor) -> None:
        """Hand the memory of a tensor of another lane to nobody else before this lane has come past here."""
        ...


class Hardware(Protocol):
    """Something that computes.

    Attributes:
        device: As torch calls it.
    """

    device: torch.device

    def lane(self) -> Lane:
        """A new lane."""
        ...

    def host_memory(self, size: int) -> Tensor:
        """``size`` bytes on the host that copies can run from and to while the host does something else."""
        ...

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy between host memory and the device, in the lane that is running."""
        ...

    def foreign(self) -> Mark | None:
        """A mark behind what libraries other than torch have in hand on the device, for example a video decoder."""
        ...


def hardware_of(device: torch.device) -> Hardware:
    """What drives a device."""
    return CudaHardware(device) if device.type == "cuda" else HostHardware(device)


@contextmanager
def faults_of(device: torch.device, *, memory: str = "") -> Iterator[None]:
    """Say what a fault of a device means: work done inside, or work that was asked for before, has failed.

    Args:
        device: The device.
        memory: What there was no memory for, in words; empty to leave running out of memory to the caller.

    Raises:
        DeviceError: In place of what torch raises.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if not memory:
            raise
        raise DeviceError(f"{device} has no memory left for {memory}; free some, or use a smaller model") from error
    except torch.AcceleratorError as error:
        reason = str(error).strip().partition("\n")[0]
        raise DeviceError(
            f"{device} failed ({reason}); nothing works on it until the process is started anew"
        ) from error


class HostMark:
    """A moment: everything before it is done."""

    def __init__(self) -> None:
        self._moment = time.perf_counter()

    def wait(self) -> None:
        """See :meth:`Mark.wait`."""

    def done(self) -> bool:
        """See :meth:`Mark.done`."""
        return True

    def since(self, earlier: Mark) -> float:
        """See :meth:`Mark.since`."""
        assert isinstance(earlier, HostMark)
        return self._moment - earlier._moment


class HostLane:
    """No stream: what is asked for is done at once."""

    def running(self) -> AbstractContextManager[None]:
        """See :meth:`Lane.running`."""
        return nullcontext()

    def after(self, mark: Mark | None) -> None:
        """See :meth:`Lane.after`."""

    def mark(self) -> Mark:
        """See :meth:`Lane.mark`."""
        return HostMark()

    def keep(self, tensor: Tensor) -> None:
        """See :meth:`Lane.keep`."""


class HostHardware:
    """The processor, or any device whose work is done when the call returns.

    Args:
        device: As torch calls it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def lane(self) -> Lane:
        """See :meth:`Hardware.lane`."""
        return HostLane()

    def host_memory(self, size: int) -> Tensor:
        """See :meth:`Hardware.host_memory`."""
        return torch.empty(size, dtype=torch.uint8)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """See :meth:`Hardware.copy`."""
        target.copy_(source)

    def foreign(self) -> Mark | None:
        """See :meth:`Hardware.foreign`."""
        return None


class CudaMark:
    """A CUDA event.

    Args:
        stream: Where it is recorded.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._device = stream.device
        # Blocking: a thread that waits sleeps, instead of taking a core away from decoder and encoder.
        self.event = torch.cuda.Event(enable_timing=True, blocking=True)
        self.event.record(stream)

    def wait(self) -> None:
        """See :meth:`Mark.wait`."""
        with faults_of(self._device):
            self.event.synchronize()

    def done(self) -> bool:
        """See :meth:`Mark.done`."""
        with faults_of(self._device):
            return self.event.query()

    def since(self, earlier: Mark) -> float:
        """See :meth:`Mark.since`."""
        assert isinstance(earlier, CudaMark)
        return float(earlier.event.elapsed_time(self.event)) / 1e3


class CudaLane:
    """A CUDA stream that does not wait for the default one.

    Args:
        device: Its device.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def running(self) -> Iterator[None]:
        """See :meth:`Lane.running`."""
        with torch.cuda.stream(self._stream):
            yield

    def after(self, mark: Mark | None) -> None:
        """See :meth:`Lane.after`."""
        if isinstance(mark, CudaMark):
            self._stream.wait_event(mark.event)

    def mark(self) -> Mark:
        """See :meth:`Lane.mark`."""
        return CudaMark(self._stream)

    def keep(self, tensor: Tensor) -> None:
        """See :meth:`Lane.keep`."""
        tensor.record_stream(self._stream)


class CudaHardware:
    """One CUDA device.

    Args:
        device: With or without an index.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = torch.device("cuda", device.index or 0)

    def lane(self) -> Lane:
        """See :meth:`Hardware.lane`."""
        return CudaLane(self.device)

    def host_memory(self, size: int) -> Tensor:
        """See :meth:`Hardware.host_memory`; page-locked."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """See :meth:`Hardware.copy`."""
        target.copy_(source, non_blocking=True)

    def foreign(self) -> Mark | None:
        """See :meth:`Hardware.foreign`; FFmpeg's decoders work in the default stream of the device."""
        return CudaMark(torch.cuda.default_stream(self.device))

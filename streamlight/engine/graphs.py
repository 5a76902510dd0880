"""CUDA graphs: a piece of work that is the same for every frame is asked for once, and then only started."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakSet

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Work = Callable[[Tensors], Tensors]

CAPACITY = 24
"""Graphs that are kept: of one kind of frame for each number of cameras that come together, and some."""

EAGER = 2
"""Calls before a graph is made: what a first call prepares (tables, kernels, choices of algorithms) is not captured."""

IDLE = 500
"""Calls that a graph must not have been used for before another takes its place: making one stops the whole device."""

_KNOWN = 256

_reserve = threading.Lock()
"""Held by whoever captures or empties torch's reserve: captures exclude one another in a process, and the allocator of
a device that captures must not be asked to empty it, which is what every capture on any device begins with."""


class Recording(Protocol):
    """A piece of work on fixed memory that can be started again."""

    def replay(self) -> None:
        """Do it once more, in the lane that is running."""
        ...


Record = Callable[[Work, Tensors], tuple[Recording, Tensors]]
"""From a function and the memory that it is to read, to its recording and the memory that it writes."""


@dataclass(slots=True)
class _Graph:
    inputs: Tensors
    outputs: Tensors
    recording: Recording
    used: int = 0

    @property
    def nbytes(self) -> int:
        return _nbytes(self.inputs) + _nbytes(self.outputs)


class GraphCache:
    """Runs pure functions of tensors, as CUDA graphs where they have proved to repeat.

    The key is what the caller says plus name, shape, strides, type and device of every tensor. A function that cannot
    be captured runs as it is, and :attr:`refused` says why; also where memory ran out, as a graph needs its own beside
    that of the calls as they are. One for which there is no room among the graphs runs as it is, too: those in use are
    not thrown out for others. Outputs are copies: they stay valid.

    Args:
        record: Captures; ``None`` where there are no graphs, and everything runs as it is.
        capacity: Graphs that are kept.
        memory: Bytes that their inputs and outputs may take; None for any number.

    Attributes:
        refused: Reason by key, for functions that could not be captured.
        captured: Graphs made so far.
        replayed: Calls that a graph answered.
    """

    def __init__(self, record: Record | None, *, capacity: int = CAPACITY, memory: int | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity = }")
        self._record = record
        self._capacity = capacity
        self._memory = memory
        self._calls = 0
        self._seen: Counter[Hashable] = Counter()
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self.refused: dict[Hashable, str] = {}
        self.captured = 0
        self.replayed = 0

    def __call__(self, key: Hashable, work: Work, inputs: Mapping[str, Tensor]) -> Tensors:
        """``work(inputs)``.

        Args:
            key: Everything that decides what ``work`` does besides the tensors it is given.
            work: Depends on nothing else, waits for nothing, and may write to its inputs only if it returns them.
            inputs: Named tensors.
        """
        inputs = dict(inputs)
        if self._record is None:
            return work(inputs)
        self._calls += 1
        full = (key, tuple(sorted((name, *_kind(tensor)) for name, tensor in inputs.items())))
        if full in self.refused:
            return work(inputs)
        graph = self._graphs.get(full)
        if graph is None:
            if self._times_seen(full) <= EAGER:
                return work(inputs)
            graph = self._capture(full, work, inputs) if self._makes_room(inputs) else None
            if graph is None:
                return work(inputs)
        self._graphs.move_to_end(full)
        graph.used = self._calls
        for name, tensor in inputs.items():
            graph.inputs[name].copy_(tensor)
        graph.recording.replay()
        self.replayed += 1
        return {name: tensor.clone() for name, tensor in graph.outputs.items()}

    def clear(self) -> None:
        """Let go of all graphs and their memory."""
        self._graphs.clear()
        self._seen.clear()

    def _times_seen(self, key: Hashable) -> int:
        if len(self._seen) >= _KNOWN:
            self._seen.clear()
        self._seen[key] += 1
        return self._seen[key]

    def _makes_room(self, inputs: Tensors) -> bool:
        """Throw out graphs that nobody uses any more; whether there is room for another then."""
        wanted = 2 * _nbytes(inputs)  # the outputs are hardly more
        while self._graphs and (len(self._graphs) >= self._capacity or not self._fits(wanted)):
            oldest = next(iter(self._graphs))
            if self._calls - self._graphs[oldest].used < IDLE:
                return False
            del self._graphs[oldest]
        return self._fits(wanted)

    def _fits(self, wanted: int) -> bool:
        return self._memory is None or wanted + sum(graph.nbytes for graph in self._graphs.values()) <= self._memory

    def _capture(self, key: Hashable, work: Work, inputs: Tensors) -> _Graph | None:
        assert self._record is not None
        held = {name: tensor.clone() for name, tensor in inputs.items()}
        try:
            recording, outputs = self._record(work, held)
        except Exception as error:  # what cannot be captured still runs; the reason is kept for the report
            if len(self.refused) >= _KNOWN:
                self.refused.clear()
            self.refused[key] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            return None
        self.captured += 1
        graph = self._graphs[key] = _Graph(held, outputs, recording)
        return graph


def graph_cache(device: torch.device, *, capacity: int = CAPACITY) -> GraphCache:
    """A cache that captures on CUDA devices and nowhere else; its graphs hold a quarter of the memory at most."""
    if device.type != "cuda":
        return GraphCache(None, capacity=capacity)
    memory = torch.cuda.get_device_properties(device).total_memory // 4
    return GraphCache(_CudaRecorder(device), capacity=capacity, memory=memory)


def let_go(cache: GraphCache, device: torch.device) -> None:
    """Let go of a device's graphs, and give the memory that torch holds in reserve there back to the driver."""
    if device.type != "cuda":
        return cache.clear()
    with _reserve:
        torch.cuda.synchronize(device)  # a graph must not be let go while it runs
        cache.clear()
        torch.cuda.empty_cache()


class _CudaRecorder:
    """Captures with a pool of memory that all graphs of a device share: they run one after another."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._alive: WeakSet[torch.cuda.CUDAGraph] = WeakSet()
        self._broken_off: list[torch.cuda.CUDAGraph] = []

    def __call__(self, work: Work, inputs: Tensors) -> tuple[Recording, Tensors]:
        with _reserve:
            # A pool ends with its last graph, and the name of one that has ended is not taken again.
            pool = next((graph.pool() for graph in self._alive), None) or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.current_stream(self._device)
            try:
                # Other threads go on uploading and downloading while this one captures.
                with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                    outputs = work(dict(inputs))
            except BaseException:
                self._end(graph, pool)
                raise
            self._alive.add(graph)
            return graph, outputs

    def _end(self, graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
        """Tell the allocator that a capture is over which CUDA broke off.

        A torch without pytorch/pytorch#180395 takes it for one that goes on, and frees nothing any more that was kept
        for another lane. Others answer that there is no such capture.
        """
        with suppress(RuntimeError):
            device = torch.cuda.current_device()
            torch._C._cuda_endAllocateToPool(device, pool)
            torch._C._cuda_releasePool(device, pool)
            self._broken_off.append(graph)  # the allocator of page-locked memory goes on asking it


def _nbytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _kind(tensor: Tensor) -> tuple[object, ...]:
    return tuple(tensor.shape), tensor.stride(), str(tensor.dtype), str(tensor.device)

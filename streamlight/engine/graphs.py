"""CUDA graphs: a piece of work that is the same for every frame is asked for once, and then only started."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Work = Callable[[Tensors], Tensors]

EAGER = 2
"""Calls before a graph is made: what a first call prepares (tables, kernels, choices of algorithms) is not captured."""

_KNOWN: int = 256


class Recording(Protocol):
    """A piece of work on fixed memory that can be started again."""

    def replay(self) -> None:
        """Do it once more, in the lane that is running."""
        ...


Record = Callable[[Work, Tensors], tuple[Recording, Tensors]]
"""From a function and the memory that it is to read, to its recording and the memory that it writes."""


@dataclass(frozen=True, slots=True)
class _Graph:
    inputs: Tensors
    outputs: Tensors
    recording: Recording


class GraphCache:
    """Runs pure functions of tensors, as CUDA graphs where they have proved to repeat.

    The key is what the caller says plus name, shape, strides, type and device of every tensor. A function that cannot
    be captured runs as it is, and :attr:`refused` says why. Outputs are copies: they stay valid.

    Args:
        record: Captures; ``None`` where there are no graphs, and everything runs as it is.
        capacity: Graphs that are kept; the one that was not used for longest goes first.

    Attributes:
        refused: Reason by key, for functions that could not be captured.
        captured: Graphs made so far.
        replayed: Calls that a graph answered.
    """

    def __init__(
        self, record: Callable[[Work, Tensors], tuple[Recording, Tensors]] | None, *, capacity: int = 8
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity = }")
        self._record = record
        self._capacity = capacity
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
        full = (key, tuple(sorted((name, *_kind(tensor)) for name, tensor in inputs.items())))
        if full in self.refused:
            return work(inputs)
        graph = self._graphs.get(full)
        if graph is None:
            if self._times_seen(full) <= EAGER:
                return work(inputs)
            graph = self._capture(full, work, inputs)
            if graph is None:
                return work(inputs)
        self._graphs.move_to_end(full)
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

    def _capture(self, key: Hashable, work: Work, inputs: Tensors) -> _Graph | None:
        assert self._record is not None
        while len(self._graphs) >= self._capacity:
            self._graphs.popitem(last=False)
        held = {name: tensor.clone() for name, tensor in inputs.items()}
        try:
            recording, outputs = self._record(work, held)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what cannot be captured still runs; the reason is kept for the report
            if len(self.refused) >= _KNOWN:
                self.refused.clear()
            self.refused[key] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            return None
        self.captured += 1
        graph = self._graphs[key] = _Graph(held, outputs, recording)
        return graph


def graph_cache(device: torch.device, *, capacity: int = 8) -> GraphCache:
    """A cache that captures on CUDA devices and nowhere else."""
    return GraphCache(_CudaRecorder(device) if device.type == "cuda" else None, capacity=capacity)


class _CudaRecorder:
    """Captures with a pool of memory that all graphs of a device share: they run one after another."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def __call__(self, work: Work, inputs: Tensors) -> tuple[Recording, Tensors]:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(self._device)
        # Other threads go on uploading and downloading while this one captures.
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            outputs = work(dict(inputs))
        return graph, outputs


def _kind(tensor: Tensor) -> tuple[object, ...]:
    return tuple(tensor.shape), tensor.stride(), str(tensor.dtype), str(tensor.device)

"""Enhancers on a device: frames stay there from upload to download, and nobody waits in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from streamlight.engine.graphs import Tensors, graph_cache, let_go
from streamlight.engine.link import DevicePlanes, Link, Told
from streamlight.engine.streams import faults_of
from streamlight.media.frame import Frame
from streamlight.temporal import StreamState
from streamlight.temporal.arrays import below

Planes = tuple[Tensor, ...]

Work = Callable[[list[Planes], list[StreamState], list[Tensor]], list[Planes]]
"""Planes of frames, the states of their streams, and seconds since the frames before, to bright planes.

Works on the states' tensors alone: what else is in a state is the host's, and is not seen again by a graph.
"""


_BEHIND = 1
"""Newest frames whose cuts are not waited for: the host is asking for the next while the device works on those."""


@dataclass(slots=True)
class _Cuts:
    """Cuts of a stream that the host knows of, and the counts of later frames on their way."""

    known: int
    told: deque[Told] = field(default_factory=deque)


class Resident:
    """Runs the work of an enhancer on its device.

    Args:
        device: Not the host.
        link: To it; a new one if None.

    Attributes:
        link: The way of pictures there and back.
        graphs: Where work that repeats is kept.
    """

    def __init__(self, device: torch.device, *, link: Link | None = None) -> None:
        self.device = device
        self.link = link or Link(device)
        self.graphs = graph_cache(device)
        self._cuts: WeakKeyDictionary[StreamState, _Cuts] = WeakKeyDictionary()

    def make_room(self) -> None:
        """Let go of what only makes things faster, after memory has run out."""
        let_go(self.graphs, self.device)

    def to_arrays(self, state: StreamState) -> dict[str, np.ndarray]:
        """A copy of a state, in which every cut is heeded; what goes on from it does the same as what goes on here."""
        with self.working():
            self._heed_cuts(state, behind=0)
            return state.to_arrays()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside, what is done with tensors of states comes behind the work on the frames before."""
        with self.link.computing():
            yield

    def run(
        self,
        frames: Sequence[Frame],
        states: Sequence[StreamState],
        seconds: Sequence[float],
        work: Work,
        *,
        key: Hashable,
    ) -> None:
        """Replace the planes of frames of different streams; they end up where they came from, host or device.

        Args:
            frames: Planes on the host or the device.
            states: Of their streams; updated.
            seconds: Since the frames before.
            work: What to do with them.
            key: All that decides what ``work`` does, besides shapes and types.

        Raises:
            torch.OutOfMemoryError: The device's memory does not suffice; nothing has changed but what was filtered.
            DeviceError: The device has failed.
        """
        there = [self.link.to_device(frame.planes) for frame in frames]
        with faults_of(self.device), self.link.computing(*there):
            for state in states:
                self.bring(state)
                self._heed_cuts(state)
            found = self._through_graphs([tuple(planes) for planes in there], states, seconds, work, key)
            for state in states:
                self._ask_for_cuts(state)
            results = [self.link.computed(planes) for planes in found]
        bound = [i for i, frame in enumerate(frames) if not isinstance(frame.planes, DevicePlanes)]
        for i, planes in enumerate(results):
            if i not in bound:
                frames[i].planes = planes  # type: ignore[assignment]  # tensors, up to the download
        for i, arrays in zip(bound, self.link.to_host(*(results[i] for i in bound)), strict=True):
            frames[i].planes = arrays

    def bring(self, state: StreamState) -> None:
        """Have a state on the device that may come from the host."""
        if state.small is not None or state.average is not None:
            state.to(self.device)

    def _through_graphs(
        self,
        planes: list[Planes],
        states: Sequence[StreamState],
        seconds: Sequence[float],
        work: Work,
        key: Hashable,
    ) -> list[Planes]:
        count = len(planes)
        ages = [0 if state.average is None else state.average.age for state in states]
        shells = [replace(state) for state in states]

        def pure(tensors: Tensors) -> Tensors:
            own = [shells[i].with_tensors(below(f"{i}.state", tensors)) for i in range(count)]
            dark = [tuple(below(f"{i}.plane", tensors).values()) for i in range(count)]
            bright = work(dark, own, [tensors[f"{i}.seconds"] for i in range(count)])
            given = {f"{i}.plane.{j}": plane for i, each in enumerate(bright) for j, plane in enumerate(each)}
            for i, state in enumerate(own):
                given |= {f"{i}.state.{name}": tensor for name, tensor in state.tensors().items()}
            return given

        inputs: Tensors = {}
        for i, state in enumerate(states):
            inputs |= {f"{i}.plane.{j}": plane for j, plane in enumerate(planes[i])}
            inputs |= {f"{i}.state.{name}": tensor for name, tensor in state.tensors().items()}
            # A number that is filled in goes along with the order to do so; a copy would have to be waited for.
            inputs[f"{i}.seconds"] = torch.full((), seconds[i], dtype=torch.float32, device=self.device)
        # An average that the device has not seen yet takes its age from the host, as a number that would be recorded.
        unseen = tuple(
            state.average.age for state in states if state.average is not None and state.average.seen is None
        )
        outputs = self.graphs((key, unseen), pure, inputs)
        for i, (state, shell) in enumerate(zip(states, shells, strict=True)):
            _take(state, shell.with_tensors(below(f"{i}.state", outputs)))
            if state.average is not None:
                state.average = replace(state.average, age=ages[i] + 1)
            state.age += 1
        return [tuple(below(f"{i}.plane", outputs).values()) for i in range(count)]

    def _heed_cuts(self, state: StreamState, *, behind: int = _BEHIND) -> None:
        """Forget what a model left before a cut of which the host has come to know.

        On the frame of the cut itself the memory counts for nothing, but a sampler still takes its short way. It is
        heeded a fixed number of frames later, not when word happens to come: the result must not depend on timing.

        Args:
            state: Of the stream.
            behind: Frames whose word is not waited for.
        """
        if state not in self._cuts:
            self._cuts[state] = _Cuts(0 if isinstance(state.cuts, Tensor) else state.cuts)
        cuts = self._cuts[state]
        while len(cuts.told) > behind:
            told = cuts.told.popleft()
            told.mark.wait()
            number = int(told.value.numpy())
            if number > cuts.known:
                cuts.known = number
                state.carried = {}

    def _ask_for_cuts(self, state: StreamState) -> None:
        if isinstance(state.cuts, Tensor) and state.carried:
            self._cuts[state].told.append(self.link.tell(state.cuts))


def _take(state: StreamState, other: StreamState) -> None:
    """Make ``state``, which others refer to, what ``other`` is."""
    for entry in fields(state):
        setattr(state, entry.name, getattr(other, entry.name))

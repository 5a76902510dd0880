"""What is asked of CUDA's streams, events and graphs, with stand-ins that write it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from streamlight.engine.graphs import EAGER, graph_cache
from streamlight.engine.streams import CudaHardware, CudaMark, HostHardware, HostMark, hardware_of
from streamlight.errors import DeviceError


class Stream:
    """Stands in for ``torch.cuda.Stream``."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.waited: list[Any] = []

    def wait_event(self, event: Any) -> None:
        self.waited.append(event)


class Event:
    """Stands in for ``torch.cuda.Event``."""

    fault: Exception | None = None

    def __init__(self, *, enable_timing: bool, blocking: bool) -> None:
        assert enable_timing
        assert blocking  # who waits must not spin
        self.stream: Any = None
        self.waits = 0

    def record(self, stream: Any) -> None:
        self.stream = stream

    def synchronize(self) -> None:
        if Event.fault is not None:
            raise Event.fault
        self.waits += 1

    def query(self) -> bool:
        return self.waits > 0

    def elapsed_time(self, end: Any) -> float:
        return 250.0


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Streams in the order in which they were made current."""
    seen: list[Any] = []

    @contextmanager
    def current(stream: Any) -> Iterator[None]:
        seen.append(stream)
        yield

    Event.fault = None
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", current)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: ("default", device))
    monkeypatch.setattr(CudaMark, "__init__", _on_default(CudaMark.__init__))
    return seen


def _on_default(plain: Any) -> Any:
    def made(mark: Any, stream: Any) -> None:
        if isinstance(stream, tuple):  # the default stream has no stand-in of its own
            stream = Stream(stream[1])
        plain(mark, stream)

    return made


def test_lanes_are_streams_of_the_device_and_wait_for_one_another(running: list[Any]) -> None:
    hardware = hardware_of(torch.device("cuda"))
    assert isinstance(hardware, CudaHardware)
    assert hardware.device == torch.device("cuda", 0)
    first, second = hardware.lane(), hardware.lane()
    with first.running():
        pass
    mark = first.mark()
    assert mark.event.stream is running[0]  # type: ignore[attr-defined]
    second.after(mark)
    second.after(None)
    second.after(HostMark())  # of the host: it is over
    with second.running():
        pass
    assert running[1] is not running[0]
    assert running[1].waited == [mark.event]  # type: ignore[attr-defined]
    assert running[1].device == torch.device("cuda", 0)


def test_marks_wait_tell_and_measure(running: list[Any]) -> None:
    lane = hardware_of(torch.device("cuda", 1)).lane()
    mark = lane.mark()
    assert not mark.done()
    mark.wait()
    assert mark.done()
    assert mark.since(lane.mark()) == 0.25


def test_memory_is_kept_for_the_lane_that_reads_it(running: list[Any]) -> None:
    class Plane:
        readers: list[Any] = []  # noqa: RUF012

        def record_stream(self, stream: Any) -> None:
            self.readers.append(stream)

    lane, plane = hardware_of(torch.device("cuda", 0)).lane(), Plane()
    lane.keep(plane)  # type: ignore[arg-type]
    with lane.running():
        pass
    assert plane.readers == running


def test_decoders_work_in_the_default_stream_of_their_device(running: list[Any]) -> None:
    mark = CudaHardware(torch.device("cuda", 1)).foreign()
    assert isinstance(mark, CudaMark)
    assert mark.event.stream.device == torch.device("cuda", 1)
    assert HostHardware(torch.device("cpu")).foreign() is None


def test_work_that_failed_shows_where_it_is_waited_for(running: list[Any]) -> None:
    mark = hardware_of(torch.device("cuda", 0)).lane().mark()
    Event.fault = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(DeviceError, match=r"cuda:0 failed \(CUDA error: an illegal memory access"):
        mark.wait()


def test_graphs_are_captured_in_the_stream_that_is_running_and_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    captures: list[dict[str, Any]] = []

    class Graph:
        replays = 0

        def pool(self) -> str:
            return "pool of a graph"

        def replay(self) -> None:
            Graph.replays += 1

    @contextmanager
    def graph(made: Any, **how: Any) -> Iterator[None]:
        assert isinstance(made, Graph)
        captures.append(how)
        yield

    class Properties:
        total_memory = 4000

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "new pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    cache = graph_cache(torch.device("cuda", 0))
    for key in ("a", "b", "too much"):
        size = 60 if key == "too much" else 2
        for _ in range(EAGER + 2):
            cache(key, lambda named: {"y": named["x"] + 1.0}, {"x": torch.zeros(size, dtype=torch.float64)})
    how = {"stream": "stream of cuda:0", "capture_error_mode": "thread_local"}
    assert captures == [{"pool": "new pool", **how}, {"pool": "pool of a graph", **how}]
    assert Graph.replays == cache.replayed == 4
    assert cache.refused == {}

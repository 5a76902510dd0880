from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest
import torch

from streamlight.engine.graphs import EAGER, GraphCache, Tensors, Work, _CudaRecorder, graph_cache, let_go


class Replayed:
    """A graph as CUDA's: the same work on the same memory, whatever Python has become since."""

    def __init__(self, work: Work, inputs: Tensors, outputs: Tensors) -> None:
        self.work, self.inputs, self.outputs = work, inputs, outputs

    def replay(self) -> None:
        for name, value in self.work(dict(self.inputs)).items():
            self.outputs[name].copy_(value)


def record(work: Work, inputs: Tensors) -> tuple[Replayed, Tensors]:
    outputs = {name: torch.full_like(value, 77) for name, value in work(dict(inputs)).items()}
    return Replayed(work, inputs, outputs), outputs


def double(tensors: Tensors) -> Tensors:
    return {"y": tensors["x"] * 2.0}


def x(value: float, size: int = 3) -> Tensors:
    return {"x": torch.full((size,), value)}


def test_a_function_runs_as_it_is_until_it_has_repeated() -> None:
    cache = GraphCache(record)
    for number in range(5):
        assert cache("double", double, x(number))["y"].tolist() == [2.0 * number] * 3
    assert (cache.captured, cache.replayed) == (1, 5 - EAGER)


def test_results_stay_valid_after_the_next_call() -> None:
    cache = GraphCache(record)
    results = [cache("double", double, x(number))["y"] for number in range(6)]
    assert [result[0].item() for result in results] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def test_inputs_that_the_function_writes_to_are_not_those_of_the_caller_once_it_is_recorded() -> None:
    def add_one(tensors: Tensors) -> Tensors:
        return {"memory": tensors["memory"].add_(1.0)}

    cache, memory = GraphCache(record), torch.zeros(2)
    for _ in range(6):
        memory = cache("add", add_one, {"memory": memory})["memory"]
    # Recording runs the function once on memory of its own in this test; on CUDA it runs nothing.
    assert memory.tolist() == [6.0, 6.0]


def test_keys_hold_all_that_decides() -> None:
    cache = GraphCache(record)
    for inputs in (x(1.0), x(1.0, 4), {"x": torch.ones(3, dtype=torch.float64)}, {"x": torch.ones(3, 3)[:, 0]}):
        for key in ("a", "b"):
            for _ in range(EAGER + 2):
                cache(key, double, inputs)
    assert cache.captured == 8


def test_a_graph_that_nobody_uses_any_more_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlight.engine.graphs.IDLE", 10)
    cache = GraphCache(record, capacity=2)
    for size in (1, 2):
        for _ in range(EAGER + 1):
            cache("double", double, x(1.0, size))
    for _ in range(20):
        assert cache("double", double, x(1.0, 2))["y"].tolist() == [2.0, 2.0]
        assert cache("double", double, x(3.0, 3))["y"].tolist() == [6.0] * 3
    assert cache.captured == 3
    assert len(cache._graphs) == 2


def test_graphs_in_use_are_not_thrown_out_for_others() -> None:
    cache = GraphCache(record, capacity=2)
    for _ in range(50):
        for size in (1, 2, 3, 4):
            assert cache("double", double, x(1.0, size))["y"].tolist() == [2.0] * size
    assert cache.captured == 2
    assert cache.replayed == 2 * (50 - EAGER)


def test_memory_of_graphs_has_a_bound() -> None:
    cache = GraphCache(record, memory=1000)
    for _ in range(10):
        cache("double", double, x(1.0, 100))  # 400 bytes in, as many out
        cache("other", double, x(1.0, 100))
    assert cache.captured == 1
    assert cache.refused == {}


def test_what_cannot_be_captured_runs_as_it_is_and_says_why() -> None:
    def refuse(work: Work, inputs: Tensors) -> tuple[Replayed, Tensors]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    cache = GraphCache(refuse)
    for number in range(6):
        assert cache("double", double, x(number))["y"][0] == 2.0 * number
    assert list(cache.refused.values()) == ["RuntimeError: operation not permitted when stream is capturing"]
    assert cache.replayed == 0


def test_without_memory_for_a_graph_the_function_runs_as_it_is() -> None:
    def full(work: Work, inputs: Tensors) -> tuple[Replayed, Tensors]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    cache = GraphCache(full)
    for number in range(6):
        assert cache("double", double, x(number))["y"][0] == 2.0 * number
    assert list(cache.refused.values()) == ["OutOfMemoryError: CUDA out of memory"]


def test_no_graphs_without_cuda() -> None:
    cache = graph_cache(torch.device("cpu"))
    for number in range(5):
        assert cache("double", double, x(number))["y"][0] == 2.0 * number
    assert cache.captured == 0
    with pytest.raises(ValueError, match="capacity"):
        GraphCache(None, capacity=0)


class Allocator:
    """What torch's allocator keeps of captures and their pools, and what it does not put up with.

    Args:
        forgiving: Whether a capture that CUDA broke off is over (pytorch/pytorch#180395).
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, forgiving: bool) -> None:
        self.forgiving = forgiving
        self.users: Counter[Any] = Counter()
        self.underway: list[Any] = []
        self.handles = 0
        allocator = self

        class Graph:
            known: Any = None

            def pool(self) -> Any:
                assert self.known is not None
                return self.known

            def replay(self) -> None:
                pass

            def __del__(self) -> None:
                if self.known is not None:
                    allocator.release(0, self.known)

        class Capture:
            def __init__(self, graph: Graph, *, pool: Any, stream: Any, capture_error_mode: str) -> None:
                self.graph, self.pool = graph, pool

            def __enter__(self) -> None:
                allocator.empty()
                assert allocator.users[self.pool] > 0 or self.pool not in allocator.users, "use_count > 0"
                allocator.users[self.pool] += 1
                allocator.underway.append(self.pool)

            def __exit__(self, kind: Any, *_: object) -> None:
                if kind is not torch.AcceleratorError or allocator.forgiving:
                    allocator.end(0, self.pool)
                if kind is None:
                    self.graph.known = self.pool
                elif kind is not torch.AcceleratorError or allocator.forgiving:
                    allocator.release(0, self.pool)

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", Capture)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", self.handle)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        monkeypatch.setattr(torch.cuda, "empty_cache", self.empty)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.end, raising=False)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", self.release, raising=False)

    def handle(self) -> tuple[int, int]:
        self.handles += 1
        return 0, self.handles

    def end(self, device: int, pool: Any) -> None:
        if pool not in self.underway:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.underway.remove(pool)

    def release(self, device: int, pool: Any) -> None:
        assert self.users[pool] > 0
        self.users[pool] -= 1

    def empty(self) -> None:
        assert not self.underway, "captures_underway.empty()"


@pytest.mark.parametrize("forgiving", [True, False])
def test_graphs_of_a_device_share_a_pool_that_may_end_and_captures_that_break_off_are_over(
    monkeypatch: pytest.MonkeyPatch, forgiving: bool
) -> None:
    def waits(tensors: Tensors) -> Tensors:
        if allocator.underway:
            raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")
        return double(tensors)

    allocator = Allocator(monkeypatch, forgiving=forgiving)
    cache = GraphCache(_CudaRecorder(torch.device("cuda", 0)))

    def call(key: str, work: Work = double) -> None:
        for _ in range(EAGER + 2):
            cache(key, work, x(1.0))

    call("waits first", waits)
    call("a")
    call("b")
    assert allocator.handles == 2, "the one that broke off, and one for both"
    call("waits", waits)
    call("c")
    assert allocator.handles == 2
    assert cache.captured == 3
    assert len(cache.refused) == 2
    assert sum(allocator.users.values()) == 3
    let_go(cache, torch.device("cuda", 0))
    assert sum(allocator.users.values()) == 0
    call("a")
    assert cache.captured == 4
    assert len(cache.refused) == 2


def test_one_capture_at_a_time_and_no_memory_given_back_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator = Allocator(monkeypatch, forgiving=True)

    def slow(tensors: Tensors) -> Tensors:
        if allocator.underway:
            time.sleep(0.02)
        return double(tensors)

    faults: list[BaseException] = []

    def device(index: int) -> None:
        try:
            cache = GraphCache(_CudaRecorder(torch.device("cuda", index)))
            for number in range(5):
                for _ in range(EAGER + 1):
                    cache(number, slow, x(1.0))
                let_go(cache, torch.device("cuda", index))
            assert (cache.captured, cache.refused) == (5, {})
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=device, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []

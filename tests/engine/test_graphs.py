from __future__ import annotations

import pytest
import torch

from streamlight.engine.graphs import EAGER, GraphCache, Tensors, Work, graph_cache


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


def test_memory_that_runs_out_while_capturing_is_the_caller_s_business() -> None:
    def full(work: Work, inputs: Tensors) -> tuple[Replayed, Tensors]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    cache = GraphCache(full)
    for _ in range(EAGER):
        cache("double", double, x(1.0))
    with pytest.raises(torch.OutOfMemoryError):
        cache("double", double, x(1.0))


def test_no_graphs_without_cuda() -> None:
    cache = graph_cache(torch.device("cpu"))
    for number in range(5):
        assert cache("double", double, x(number))["y"][0] == 2.0 * number
    assert cache.captured == 0
    with pytest.raises(ValueError, match="capacity"):
        GraphCache(None, capacity=0)

"""Work in bands of rows on threads: the same result, errors that surface, torch's setting left alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from llflow_golden import WEIGHTS, close, tensors

from streamlight import load
from streamlight.models.nn.bands import in_bands
from streamlight.models.nn.rrdb import DenseBlock
from streamlight.models.nn.strips import Kernel, dense_block

CPU = torch.device("cpu")


@pytest.fixture(params=[2, 3], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("height", [1, 16, 31, 32, 100])
def test_bands_cover_all_rows_once(height: int, threads: int) -> None:
    seen = torch.zeros(height, dtype=torch.int32)
    used = set()

    def work(start: int, stop: int) -> None:
        seen[start:stop] += 1
        used.add(torch.get_num_threads())

    in_bands(height, work, device=CPU)
    assert bool((seen == 1).all())
    assert used == ({1} if height >= 32 else {threads})
    assert torch.get_num_threads() == threads


def test_threads_made_later_get_the_usual_number(threads: int) -> None:
    in_bands(100, lambda start, stop: None, device=CPU)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [threads]


def test_an_error_in_a_band_surfaces() -> None:
    def work(start: int, stop: int) -> None:
        raise ValueError(f"rows {start}")

    with pytest.raises(ValueError, match="rows 0"):
        in_bands(100, work, device=CPU)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_bands_inherit_the_mode_of_gradients(mode: type) -> None:
    weight = torch.ones(1, requires_grad=True)
    found = []
    with mode():
        in_bands(100, lambda start, stop: found.append((weight * 2).requires_grad), device=CPU)
    assert not any(found)


@pytest.mark.parametrize("height", [32, 33, 64, 71])
@pytest.mark.parametrize("rows", [6, 100])
def test_dense_block(height: int, rows: int) -> None:
    torch.manual_seed(height)
    block, x = DenseBlock(8, 4), torch.randn(2, 8, height, 9)
    with torch.inference_mode():
        kernels = [Kernel.of(conv, torch.float32) for conv in block.convolutions()]
        x = x.contiguous(memory_format=torch.channels_last)
        found = dense_block(x, kernels, slope=0.2, residual=0.2, rows=rows)
        torch.testing.assert_close(found, block(x), atol=1e-6, rtol=0)


def test_whole_model(threads: int) -> None:
    model = load(WEIGHTS)
    low = torch.rand(1, 3, 136, 40, generator=torch.Generator().manual_seed(0)) * 0.2
    found = model.sample(low, samples=2, temperature=0.3, generator=torch.Generator().manual_seed(1))  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    alone = model.sample(low, samples=2, temperature=0.3, generator=torch.Generator().manual_seed(1))  # type: ignore[attr-defined]
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)


def test_golden_picture() -> None:
    model = load(WEIGHTS, padding="official")
    prepared = model.prepared  # type: ignore[attr-defined]
    with torch.inference_mode():
        close("reverse_mean.x", prepared.decode(tensors()["reverse_mean.z"], prepared.encode(tensors()["lq"])))

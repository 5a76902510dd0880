"""Models on a CUDA device: golden sets, reduced precision, no waiting from the second frame on, CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from streamlight.models.precision import exact_float32
from streamlight.models.protocol import GenerativeModel
from streamlight.models.sampling import draw_latent
from tests.models.golden_on_device import GOLDENS
from tests.models.test_models_on_card import CASES, NARROW, dark, frames, made, setting

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True):  # puts back what it found
        exact_float32()
        yield


def there(tensor: Tensor) -> Tensor:
    return tensor.to(CUDA)


def moved(case: str) -> GenerativeModel:
    model = made(case).to(CUDA)  # type: ignore[attr-defined]
    assert isinstance(model, GenerativeModel)
    return model


@pytest.mark.parametrize("name", GOLDENS)
@torch.inference_mode()
def test_golden_sets_hold(name: str) -> None:
    GOLDENS[name](CUDA, there, lambda tensor: tensor.cpu())


@pytest.mark.parametrize("case", CASES)
def test_streams_are_those_of_the_host(case: str) -> None:
    remembers = not made(case).card.global_latent
    wanted = list(frames(made(case), lambda tensor: tensor, remembers=remembers))
    found = list(frames(moved(case), there, remembers=remembers))
    for one, other in zip(found, wanted, strict=True):
        tolerance = 2 * NARROW if setting(case, "dtype") not in (None, "float32") else 5e-3
        assert float((one.cpu() - other).abs().mean()) < tolerance / 4
        torch.testing.assert_close(one.cpu(), other, rtol=0, atol=4 * tolerance)


@pytest.mark.parametrize("case", CASES)
def test_nothing_waits_from_the_second_frame_on(case: str) -> None:
    model = moved(case)
    remembers = not model.card.global_latent
    list(frames(model, there, remembers=remembers))  # kernels are loaded, tables and noise are there
    inputs = {index: (there(dark(model, index)), there(torch.tensor([0.02]))) for index in range(2)}
    for low, noise in inputs.values():
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.inference_mode():
                condition = model.condition(low, noise=noise)
                latent = draw_latent(model.prior(condition), temperature=model.temperature, seed=1)
                bright = model.decode(latent, condition)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert bright.isfinite().all()


@pytest.mark.parametrize("case", CASES)
def test_a_graph_gives_what_it_was_made_of(case: str) -> None:
    model = moved(case)

    @torch.inference_mode()
    def work(low: Tensor, noise: Tensor) -> Tensor:
        condition = model.condition(low, noise=noise)
        latent = draw_latent(model.prior(condition), temperature=model.temperature, seed=1)
        return model.decode(latent, condition)

    low, noise = there(dark(model, 0)), there(torch.tensor([0.02]))
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            work(low, noise)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bright = work(low, noise)
    for index in (1, 2):
        low.copy_(dark(model, index))
        graph.replay()
        torch.testing.assert_close(bright, work(low, noise), rtol=0, atol=1e-3)

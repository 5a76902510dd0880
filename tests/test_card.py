"""The simulated card itself: it reckons like the CPU, and it catches whatever would wait for a real one."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.card import Simulation, Synchronised, card

ALLOWED = {
    "arithmetic": lambda x: x * 2.0 + x.mean(),
    "a number of the host": lambda x: x * torch.tensor(2.0),
    "out": lambda x: torch.add(x, 1.0, out=torch.empty_like(x)),
    "through a view": lambda x: (x[:, 1:2, ::3].mul_(0.5), x)[1],
    "assignment": lambda x: (x.__setitem__((0, 0), 0.25), x)[1],
    "behind a mask": lambda x: x.masked_fill_(x > 0.5, 0.0),
    "where": lambda x: torch.where(x > 0.5, x, 1.0),
    "convolution": lambda x: F.conv2d(x, x[:, :, :3, :3].contiguous()),
    "interpolation": lambda x: F.interpolate(x, (5, 7), mode="bilinear"),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "rank": lambda x: x.flatten().kthvalue(7).values,
    "gather": lambda x: x.flatten()[torch.arange(3, device=x.device)],
    "layout": lambda x: x.to(memory_format=torch.channels_last).to(torch.bfloat16).float(),
    "factories": lambda x: torch.full((2,), 3.0, device=x.device) + x.new_ones(2) + torch.linspace(0, 1, 2).max(),
    "to where it is": lambda x: x.to(x.device).to(x),
    "type of another": lambda x: x.to(x.long()),
}
FORBIDDEN = {
    "item": lambda x: x.mean().item(),
    "float": lambda x: float(x.mean()),
    "int": lambda x: int(x.sum()),
    "bool": lambda x: bool((x > 0).any()),
    "if": lambda x: 1 if x.mean() > 0 else 2,
    "format": lambda x: f"{x.mean():.3f}",
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to the host": lambda x: x.to("cpu"),
    "to a host tensor": lambda x: x.to(torch.zeros(1)),
    "numpy": lambda x: x.numpy(),
    "asarray": lambda x: np.asarray(x),
    "copy to the host": lambda x: torch.zeros(24).copy_(x[0, 0, 0]),
    "nonzero": lambda x: x.nonzero(),
    "where alone": lambda x: torch.where(x > 0),
    "boolean index": lambda x: x[x > 0],
    "boolean index with a value": lambda x: x.__setitem__(x > 0.5, x.mean()),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "one_hot": lambda x: F.one_hot(x.long()),
    "upload": lambda x: torch.zeros(2).to(x.device),
    "upload to a tensor's device": lambda x: torch.zeros(2).to(x),
    "upload of a number": lambda x: torch.zeros(()).to(x.device),
    "torch.tensor": lambda x: torch.tensor([1.0], device=x.device),
    "as_tensor": lambda x: torch.as_tensor([1.0], device=x.device),
    "new_tensor": lambda x: x.new_tensor(1.0),
    "list of indices": lambda x: x[0, [0, 1]],
    "indices of the host": lambda x: x[0, torch.tensor([0, 1])],
    "copy from the host": lambda x: x[0, 0, 0].copy_(torch.zeros(24)),
    "module": lambda x: nn.Linear(2, 2).to(x.device),
}


def picture() -> Tensor:
    return torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("name", ALLOWED)
def test_results_are_those_of_the_host(name: str, inference: bool) -> None:
    with card() as sim, torch.inference_mode(inference), torch.no_grad():
        wanted = ALLOWED[name](picture())
        found = ALLOWED[name](sim.put(picture()))
        assert found.device == sim.device
        assert found.dtype == wanted.dtype
        torch.testing.assert_close(sim.get(found), wanted, rtol=1e-6, atol=1e-6)  # attention has two ways


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("name", FORBIDDEN)
def test_whatever_waits_or_uploads_is_caught(name: str, inference: bool) -> None:
    with card() as sim, torch.inference_mode(inference), torch.no_grad():
        x = sim.put(picture())
        with pytest.raises(Synchronised):
            FORBIDDEN[name](x)


@pytest.mark.parametrize("name", FORBIDDEN.keys() - {"numpy", "asarray"})
def test_it_may_be_allowed(name: str) -> None:
    with card() as sim, torch.inference_mode():
        x = sim.put(picture())
        with sim.allowed():
            FORBIDDEN[name](x)
        with pytest.raises(Synchronised):
            float(x.mean())


def test_results_written_in_place_are_the_same_tensor() -> None:
    with card() as sim, torch.inference_mode():
        x = sim.put(torch.zeros(4))
        out = torch.empty_like(x)
        assert torch.add(x, 1.0, out=out) is out
        assert x.add_(1.0) is x
        whole = sim.put(torch.zeros(2, 2))
        whole.view(4)[1:3].fill_(1.0)
        assert sim.get(whole).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_host_and_card_do_not_meet() -> None:
    with card() as sim:
        with pytest.raises(RuntimeError, match="meet"):
            sim.put(torch.zeros(2)) + torch.zeros(2)
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(2, generator=torch.Generator(), device=sim.device)


def test_modules_move_and_run() -> None:
    with card() as sim, torch.inference_mode():
        plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1))
        wanted = plain(picture())
        with sim.allowed():
            plain.to(sim.device)
        assert torch.equal(sim.get(plain(sim.put(picture()))), wanted)


def test_every_thread_is_watched_but_the_trusted() -> None:
    def read(sim: Simulation, caught: list[bool]) -> None:
        try:
            float(sim.put(torch.ones(3)).sum())
            caught.append(False)
        except Synchronised:
            caught.append(True)

    with card() as sim:
        sim.trust("upload")
        caught: list[bool] = []
        for name in ("enhance", "upload"):
            with sim.allowed():  # this thread only
                thread = threading.Thread(target=read, args=(sim, caught), name=name)
                thread.start()
                thread.join()
    assert caught == [True, False]


def test_nothing_is_watched_outside_a_block() -> None:
    with card() as sim:
        x = sim.put(torch.ones(3))
    assert float(x.sum()) == 3.0

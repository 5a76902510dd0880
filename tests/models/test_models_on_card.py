"""Every model on a device: from the second frame on nothing waits for it or is copied to it, and it sees the same.

The device is simulated (tests/card.py). The first frame may prepare: fold weights, draw noise, check matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from streamlight.engine.graphs import CAPACITY
from streamlight.models import load
from streamlight.models.nn.attention import attend
from streamlight.models.nn.norm import GroupNorm
from streamlight.models.nn.resblock import Upsample
from streamlight.models.precision import exact_float32
from streamlight.models.protocol import GenerativeModel, Prior, Recall
from streamlight.models.sampling import _KEPT, draw_latent, seeded_noise
from tests.card import Simulation, card
from tests.models.golden_on_device import GOLDENS

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
FILES = {
    "llflow": GOLDEN / "llflow" / "weights.safetensors",
    "glare": GOLDEN / "glare" / "net_g.safetensors",
    "lldiffusion": GOLDEN / "lldiffusion" / "lol_tiny_weights.safetensors",
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tonenet": ("tonenet", {"dtype": "float32"}),
    "tonenet in bfloat16": ("tonenet", {"dtype": "bfloat16"}),
    "retinex": ("retinex", {}),
    "llflow": ("llflow", {"temperature": 0.5}),
    "llflow in bfloat16": ("llflow", {"dtype": "bfloat16"}),
    "llflow, official": ("llflow", {"padding": "official", "dtype": "float16"}),
    "glare": ("glare", {}),
    "glare in bfloat16": ("glare", {"dtype": "bfloat16", "temperature": 0.3}),
    "lldiffusion": ("lldiffusion", {"steps": 2, "warm_steps": 2}),
    "lldiffusion with noise": ("lldiffusion", {"steps": 2, "warm_steps": 2, "eta": 0.5}),
    "lldiffusion in tiles": ("lldiffusion", {"steps": 1, "warm_steps": 1, "tile": 64, "stride": 64}),
}
NARROW = 0.02
"""What rounding to 8 bits of a factor, in another order, may do to a picture in [0, 1]."""


def made(case: str) -> GenerativeModel:
    name, settings = CASES[case]
    return load(FILES.get(name, name), **settings)


def setting(case: str, name: str) -> Any:
    return CASES[case][1].get(name)


def dark(model: GenerativeModel, index: int) -> Tensor:
    picture = torch.rand(1, 3, 60, 70, generator=torch.Generator().manual_seed(index)) * 0.2
    if model.card.color == "ycbcr":
        picture[:, 1:] -= 0.1
    return picture


def frames(model: GenerativeModel, put: Callable[[Tensor], Tensor], *, remembers: bool) -> Iterator[Tensor]:
    """Bright pictures of a stream of two frames."""
    left: dict[str, Tensor] = {}
    for index in range(2):
        low, noise = put(dark(model, index)), put(torch.tensor([0.02]))
        confidence = put(torch.full((1, 1, 8, 9), 0.8)) if left else None
        recall = Recall(past=left, confidence=confidence) if remembers else None
        with torch.inference_mode():
            condition = model.condition(low, noise=noise, recall=recall)
            latent = draw_latent(model.prior(condition), temperature=model.temperature, seed=1)
            yield model.decode(latent, condition, strength=1.0 if index == 0 else 0.7)
        left = recall.left if recall is not None else {}


def on_card(model: GenerativeModel, sim: Simulation, *, remembers: bool, prepared: bool = True) -> Iterator[Tensor]:
    with sim.allowed():
        assert model.to(sim.device) is model  # type: ignore[attr-defined]
        if prepared and not remembers:
            list(frames(model, sim.put, remembers=False))
    pictures = frames(model, sim.put, remembers=remembers)
    if remembers:
        with sim.allowed():
            yield sim.get(next(pictures))
    for picture in pictures:
        assert picture.device == sim.device
        yield sim.get(picture)


DECISIVE = ("tonenet", "tonenet in bfloat16", "retinex")
"""Those that decide on the frame as a whole, and remember nothing themselves."""


@pytest.mark.parametrize(
    ("case", "remembers"),
    [*((case, case not in DECISIVE) for case in CASES), ("llflow", False), ("glare", False)],
)
def test_a_stream_on_a_card(case: str, remembers: bool) -> None:
    model, narrow = made(case), setting(case, "dtype") not in (None, "float32")
    wanted = list(frames(model, lambda x: x, remembers=remembers))
    with card() as sim:
        found = list(on_card(model, sim, remembers=remembers))
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=NARROW if narrow else 2e-3)


@pytest.mark.parametrize("name", list(GOLDENS)[:3])
def test_golden_sets_hold(name: str) -> None:
    with card() as sim, torch.inference_mode(), sim.allowed():
        GOLDENS[name](sim.device, sim.put, sim.get)


def test_float32_is_exact_on_a_card() -> None:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        exact_float32()
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("case", ["llflow", "glare"])
def test_several_pictures_and_samples_share_a_call(case: str) -> None:
    model = made(case)
    low = torch.cat([dark(model, 0), dark(model, 1)])
    shape = model.prior(model.condition(low)).mean.shape
    noise = torch.randn(4, *shape[1:], generator=torch.Generator().manual_seed(2))

    def bright(low: Tensor, noise: Tensor) -> Tensor:
        condition = model.condition(low)
        return model.decode(model.prior(condition).mean.repeat(2, 1, 1, 1) + 0.3 * noise, condition)

    with torch.inference_mode():
        wanted = bright(low, noise)
        with card() as sim:
            with sim.allowed():
                model.to(sim.device)  # type: ignore[attr-defined]
                bright(sim.put(low), sim.put(noise))
            found = bright(sim.put(low), sim.put(noise))
            torch.testing.assert_close(sim.get(found), wanted, rtol=0, atol=2e-3)


def test_tonenet_without_noise_only_changes_the_tone() -> None:
    model = made("tonenet")
    low = dark(model, 0)
    condition = model.condition(low)
    wanted = model.decode(model.prior(condition).mean, condition)
    with card() as sim, torch.inference_mode():
        with sim.allowed():
            model.to(sim.device)  # type: ignore[attr-defined]
        condition = model.condition(sim.put(low))
        found = model.decode(model.prior(condition).mean, condition)
        torch.testing.assert_close(sim.get(found), wanted, rtol=0, atol=1e-5)


class TestNoise:
    def test_it_is_that_of_the_host_and_copied_once(self) -> None:
        (wanted,) = seeded_noise((2, 3, 4), seed=7, device="cpu")
        assert wanted.equal(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(7)))
        with card() as sim:
            with sim.allowed():
                (first,) = seeded_noise((2, 3, 4), seed=7, device=sim.device)
            assert seeded_noise((2, 3, 4), seed=7, device=sim.device)[0] is first
            assert sim.get(first).equal(wanted)

    def test_several_come_one_after_the_other(self) -> None:
        generator = torch.Generator().manual_seed(3)
        for found in seeded_noise((5, 7), seed=3, device="cpu", count=3):
            assert found.equal(torch.randn(5, 7, generator=generator))

    def test_as_many_are_kept_as_graphs_want_and_no_more(self) -> None:
        assert _KEPT > CAPACITY
        seeds = range(100, 101 + _KEPT)
        with card() as sim, sim.allowed():
            kept = [seeded_noise((2,), seed=seed, device=sim.device)[0] for seed in seeds]
            again = [seeded_noise((2,), seed=seed, device=sim.device)[0] for seed in reversed(seeds)]
        assert [a is b for a, b in zip(again, kept[::-1], strict=True)] == [True] * _KEPT + [False]

    def test_a_seed_is_a_generator_s_first_draw(self) -> None:
        prior = Prior(torch.rand(1, 3, 4, 5), 0.5)
        wanted = draw_latent(prior, temperature=0.7, generator=torch.Generator().manual_seed(9))
        assert draw_latent(prior, temperature=0.7, seed=9).equal(wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
class TestLayers:
    """Layers that go another way on a device, against the plain ones."""

    def test_normalisation_keeps_channels_innermost(self, dtype: torch.dtype) -> None:
        norm = GroupNorm(4, 32, eps=1e-6)
        generator = torch.Generator().manual_seed(0)
        x = 3.0 + torch.randn(2, 32, 20, 30, generator=generator) * torch.rand(1, 32, 1, 1, generator=generator)
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
        x = x.to(dtype).contiguous(memory_format=torch.channels_last)
        with card() as sim, torch.inference_mode():
            wanted = nn.functional.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double(), 1e-6)
            with sim.allowed():
                norm.to(sim.device)
            found = norm(sim.put(x))
            assert found.dtype == dtype
            assert found.is_contiguous(memory_format=torch.channels_last)
            error = (sim.get(found).double() - wanted).abs().max()
            assert float(error) < (1e-5 if dtype == torch.float32 else 0.02)

    def test_enlarging_follows_its_weights(self, dtype: torch.dtype) -> None:
        layer = Upsample(8)
        x = torch.rand(1, 8, 9, 11).contiguous(memory_format=torch.channels_last)
        tolerance = 1e-5 if dtype == torch.float32 else 0.02
        with card() as sim, torch.inference_mode():
            with sim.allowed():
                layer.to(sim.device, dtype)
            for _ in range(2):
                enlarged = nn.functional.interpolate(x.to(dtype).float(), scale_factor=2.0)
                weight, bias = sim.get(layer.conv.weight).float(), sim.get(layer.conv.bias).float()  # type: ignore[arg-type]
                found = layer(sim.put(x.to(dtype)))
                wanted = nn.functional.conv2d(enlarged, weight, bias, padding=1)
                torch.testing.assert_close(sim.get(found).float(), wanted, rtol=tolerance, atol=tolerance)
                with torch.inference_mode(False), torch.no_grad():
                    layer.conv.weight.mul_(-1.5)

    def test_attention(self, dtype: torch.dtype) -> None:
        query, key, value = torch.randn(3, 1, 30, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
        with card() as sim, torch.inference_mode():
            turned = [sim.put(part).transpose(1, 2).contiguous().transpose(1, 2) for part in (query, key, value)]
            found = sim.get(attend(*turned)).float()
        wanted = (query.float() @ key.float().transpose(1, 2) / 4.0).softmax(-1) @ value.float()
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.03)

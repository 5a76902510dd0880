"""The model without weights, and how models are opened by name."""

from __future__ import annotations

import pytest
import torch

from streamlight.errors import ModelError
from streamlight.models import cards, load, names
from streamlight.models.protocol import GenerativeModel
from streamlight.models.retinex import Retinex


def dark(level: float = 0.05, *, n: int = 1, size: tuple[int, int] = (68, 120)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, size[0]), torch.linspace(0, 1, size[1]), indexing="ij")
    luma = level * (0.3 + 0.7 * x + 0.3 * torch.sin(20 * y))
    low = torch.stack([luma, 0.02 * (x - 0.5), 0.02 * (y - 0.5)])
    return low.expand(n, -1, -1, -1) + 0.0005 * torch.randn(n, 3, *size, generator=generator)


def enhance(low: torch.Tensor, *, strength: float = 1.0, **keywords) -> torch.Tensor:
    model = Retinex()
    condition = model.condition(low, **keywords)
    return model.decode(model.prior(condition).mean, condition, strength=strength)


def test_protocol():
    model = load("retinex")
    assert isinstance(model, GenerativeModel)
    assert model.card.name == "retinex"
    assert "retinex" in names()
    assert model.card in cards()


def test_middle_reaches_the_target():
    model = Retinex(target=0.4, max_gain=1000.0, locality=0.0)
    low = dark(0.1)
    condition = model.condition(low)
    luma = model.decode(model.prior(condition).mean, condition)[0, 0]
    middle = 0.3 * luma.mean() + 0.7 * (luma.clamp_min(0) + 0.01).log().mean().exp()
    assert float(middle) == pytest.approx(0.4, abs=0.03)


def test_gain_is_limited_by_the_noise():
    low = dark(0.05)
    quiet = enhance(low, noise=torch.tensor([0.0002]))[0, 0].mean()
    noisy = enhance(low, noise=torch.tensor([0.01]))[0, 0].mean()
    assert float(noisy) < 0.6 * float(quiet)
    assert float(noisy) > float(low[0, 0].mean())


def test_batch_equals_single():
    low = torch.cat([dark(0.05), dark(0.3), dark(0.02)])
    together = enhance(low)
    for i in range(3):
        torch.testing.assert_close(together[i], enhance(low[i : i + 1])[0], atol=1e-5, rtol=0)


def test_strength_zero_is_the_input():
    low = dark()
    assert enhance(low, strength=0.0) is low


@pytest.mark.parametrize("level", [0.0, 0.001, 0.05, 0.5, 1.2])
def test_output_stays_in_range(level):
    bright = enhance(dark(level))
    assert torch.isfinite(bright).all()
    assert float(bright[:, 0].min()) >= 0.0
    assert float(bright[:, 0].max()) <= 1.001
    assert float(bright[:, 1:].abs().max()) <= 0.5


def test_luma_order_is_kept_by_the_global_curve():
    model = Retinex(locality=0.0)
    ramp = torch.linspace(0, 1, 256).repeat(64, 1)
    low = torch.stack([ramp * 0.3, torch.zeros_like(ramp), torch.zeros_like(ramp)])[None]
    condition = model.condition(low)
    luma = model.decode(model.prior(condition).mean, condition)[0, 0, 0]
    assert (luma.diff() >= -1e-5).all()


def test_unknown_names():
    with pytest.raises(ModelError, match=r"unknown model 'retinax'; did you mean 'retinex'\?"):
        load("retinax")

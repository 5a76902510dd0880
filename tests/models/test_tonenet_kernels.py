"""tonenet's CPU kernels against the torch functions they stand for."""

import pytest
import torch
from torch import Tensor

from streamlight.models.tonenet import TonenetNetwork, denoiser, kernels, tone
from streamlight.models.tonenet.model import LUMA_SHARE, Tonenet
from streamlight.models.tonenet.tone import KNOTS, LATENT

SIZES = [(1, 1), (2, 9), (9, 15), (33, 70), (96, 144), (135, 241)]


def picture(height: int, width: int, *, count: int = 2, level: float = 0.3, seed: int = 0) -> Tensor:
    """Dark, with lamps beyond white and noise below black."""
    numbers = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 3, height, width, generator=numbers)
    low[:, 0] = low[:, 0] ** 4 * 1.15 - 0.02
    low[:, 1:] -= 0.5
    return low * level


def latent(*, count: int = 2, spread: float = 0.5, seed: int = 1) -> Tensor:
    numbers = torch.Generator().manual_seed(seed)
    values = spread * torch.randn(count, LATENT, generator=numbers)
    values[:, 0] = 3.5 * torch.rand(count, generator=numbers)
    values[:, 1 : 1 + KNOTS].clamp_(-3.0, 3.0)
    values[:, 1 + KNOTS : -2].clamp_(-1.5, 1.5)
    values[:, -2:].clamp_(-0.3, 0.3)
    return values


def close(first: Tensor, second: Tensor, *, atol: float = 1e-5) -> None:
    torch.testing.assert_close(first, second, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("noise", [None, (0.0, 0.004)])
def test_tone(size, strength, noise):
    levels = None if noise is None else torch.tensor(noise)
    for level in (0.05, 1.0):
        low = picture(*size, level=level)
        wanted = tone.apply_tone(latent(), low, noise=levels, strength=strength)
        got = kernels.apply_tone(latent(), low, noise=levels, strength=strength)
        close(got[0], wanted[0])
        close(got[1], wanted[1])


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_tone_at_the_limits_of_the_latent(spread):
    low = picture(40, 56, level=1.0)
    values = latent(spread=spread)
    values[0, 0] = 0.0  # no gain at all: the bend of the curve is next to nothing
    bright, gain = kernels.apply_tone(values, low)
    wanted = tone.apply_tone(values, low)
    close(bright, wanted[0])
    close(gain, wanted[1])


def test_tone_of_black_and_of_white():
    for level in (0.0, 1.0, 4.0, -1.0):
        low = torch.full((2, 3, 3, 5), level)
        got, wanted = kernels.apply_tone(latent(), low), tone.apply_tone(latent(), low)
        assert bool(torch.isfinite(got[0]).all())
        close(got[0], wanted[0])
        close(got[1], wanted[1])


def test_a_view_of_another_layout_is_read_right():
    low = picture(24, 40).to(memory_format=torch.channels_last)
    close(kernels.apply_tone(latent(), low)[0], tone.apply_tone(latent(), low)[0])
    close(kernels.survey(low)[0], tone.survey(low)[0])


@pytest.mark.parametrize("size", [*SIZES, (270, 480)])
@pytest.mark.parametrize("level", [0.02, 0.5, 4.0])
def test_survey(size, level):
    low = picture(*size, level=level)
    got, wanted = kernels.survey(low), tone.survey(low)
    close(got[0], wanted[0])
    close(got[1], wanted[1])
    # A pixel on the edge of two bins may fall into either.
    assert float((got[2].square() - wanted[2].square()).abs().sum()) <= 4.5 / (tone.GRID[0] * tone.GRID[1])


def test_survey_of_black():
    low = torch.zeros(1, 3, 100, 150)
    for got, wanted in zip(kernels.survey(low), tone.survey(low), strict=True):
        close(got, wanted)


@pytest.mark.parametrize("size", SIZES)
def test_pack(size):
    low, noise = picture(*size), torch.tensor([0.0, 0.003])
    toned, gain = tone.apply_tone(latent(), low)
    wanted = denoiser.pack(toned, low[:, :1], gain, noise, dtype=torch.float32)
    got = kernels.pack(toned, low[:, :1], gain, noise, dtype=torch.float32)
    close(got, wanted, atol=2e-6)
    assert got.is_contiguous(memory_format=torch.channels_last)
    # Rounded as torch rounds.
    half = kernels.pack(toned, low[:, :1], gain, noise, dtype=torch.bfloat16)
    assert torch.equal(half, got.bfloat16())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_merge(size, dtype, layout):
    toned, noise = picture(*size, level=1.0), torch.tensor([0.0002, 0.003])
    gain = 1.0 + 4.0 * picture(*size, seed=5)[:, :1].abs()
    half = [-(-side // 8) * 4 for side in size]
    answer = torch.randn(2, denoiser.RESIDUAL + denoiser.SHARES, *half, generator=torch.Generator().manual_seed(4))
    answer = (0.2 * answer).to(dtype=dtype, memory_format=layout)
    close(kernels.merge(toned, answer, gain, noise), denoiser.merge(toned, answer, gain, noise), atol=2e-6)


def test_merge_leaves_what_is_not_amplified():
    toned = picture(21, 35)
    answer = torch.ones(2, denoiser.RESIDUAL + denoiser.SHARES, 12, 20)
    assert torch.equal(kernels.merge(toned, answer, torch.ones(2, 1, 21, 35), torch.full((2,), 0.01)), toned)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_model_decides_and_decodes_as_its_networks_do(strength):
    torch.manual_seed(2)
    network = TonenetNetwork().eval()
    torch.nn.init.normal_(network.denoiser.head.weight, std=0.02)
    model, low, noise = Tonenet(network), picture(70, 101), torch.tensor([0.001, 0.004])
    condition = model.condition(low, noise=noise)
    chosen = model.prior(condition).mean
    with torch.no_grad():
        close(chosen, network.tone(low, noise, torch.zeros(2)))
        toned, gain = tone.apply_tone(chosen, low, noise=noise, strength=strength)
        wanted = network.denoiser(toned, low, gain, noise)
        wanted[:, :1] = toned[:, :1] + LUMA_SHARE * (wanted - toned)[:, :1]
    close(model.decode(chosen, condition, strength=strength), wanted, atol=5e-5)
    assert float((wanted - toned).abs().max()) > 0.01

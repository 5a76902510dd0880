"""Flow layers against automatic differentiation: the log-determinant is that of the true Jacobian."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from streamlight.errors import ModelError
from streamlight.models.nn.flow import (
    ActNorm,
    ConditionalAffineCoupling,
    FlowStep,
    InvertibleConv1x1,
    Squeeze,
    gaussian_log_likelihood,
)


def randomise(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.double().eval()


@pytest.mark.parametrize("channels", [3, 4, 12])
def test_log_determinant_is_that_of_the_jacobian(channels: int) -> None:
    step = randomise(FlowStep(channels, 5, 8))
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(1, channels, 2, 3, dtype=torch.float64, generator=generator)
    condition = torch.randn(1, 5, 2, 3, dtype=torch.float64, generator=generator)

    def encode(flat: Tensor) -> Tensor:
        return step(flat.reshape(z.shape), condition)[0].flatten()

    jacobian = torch.autograd.functional.jacobian(encode, z.flatten())
    expected = torch.linalg.slogdet(jacobian)[1]
    y, logdet = step(z, condition, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(logdet[0], expected, rtol=1e-10, atol=1e-10)
    back, zero = step.inverse(y, condition, logdet)
    torch.testing.assert_close(back, z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(zero, torch.zeros_like(zero), rtol=0, atol=1e-9)


def test_log_determinants_are_per_sample_and_optional() -> None:
    step = randomise(FlowStep(4, 2, 8))
    z, condition = torch.randn(3, 4, 2, 2).double(), torch.randn(3, 2, 2, 2).double()
    start = torch.tensor([0.0, 10.0, -1.0], dtype=torch.float64)
    both = step(z, condition, start)[1]
    alone = step(z[1:2], condition[1:2], start[1:2])[1]
    torch.testing.assert_close(both[1:2], alone)
    assert step(z, condition)[1] is None


def test_squeeze_order() -> None:
    z = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert Squeeze()(z)[0].flatten().tolist() == list(range(8))
    assert torch.equal(Squeeze().inverse(Squeeze()(z)[0])[0], z)


def test_actnorm_initialises_once_from_the_first_training_batch() -> None:
    norm, x = ActNorm(3), torch.randn(4, 3, 5, 5) * 7 + 2
    norm.eval()
    assert torch.equal(norm(x)[0], x)  # not in evaluation mode
    norm.train()
    y, _ = norm(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    before = norm.bias.clone()
    norm(x + 100)
    assert torch.equal(norm.bias, before)


def test_actnorm_keeps_loaded_values_and_decoding_never_initialises() -> None:
    norm = ActNorm(2).train()
    norm.inverse(torch.randn(1, 2, 3, 3))
    assert not norm.bias.any()
    norm.load_state_dict({"bias": torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1), "logs": torch.zeros(1, 2, 1, 1)})
    norm(torch.randn(1, 2, 3, 3))
    assert norm.bias.flatten().tolist() == [0.0, 1.0]


def test_a_constant_channel_does_not_break_the_initialisation() -> None:
    norm = ActNorm(1).train()
    assert torch.isfinite(norm(torch.ones(2, 1, 4, 4))[0]).all()


def test_a_singular_matrix_is_an_error() -> None:
    mix = InvertibleConv1x1(3)
    mix.weight.data = torch.ones(3, 3)
    with torch.no_grad(), pytest.raises(ModelError, match="singular"):
        mix.inverse(torch.randn(1, 3, 2, 2))


def test_the_cached_inverse_follows_the_weight() -> None:
    mix, x = InvertibleConv1x1(4), torch.randn(1, 4, 3, 3)
    with torch.no_grad():
        mix.inverse(x)
        mix.weight.mul_(2.0)
        torch.testing.assert_close(mix.inverse(mix(x)[0])[0], x)
        mix.load_state_dict({"weight": torch.eye(4) * 3})
        torch.testing.assert_close(mix.inverse(x)[0], x / 3)


def test_gradients_reach_everything_in_both_directions() -> None:
    step = randomise(FlowStep(4, 2, 8)).train()
    z, condition = torch.randn(2, 4, 2, 2).double(), torch.randn(2, 2, 2, 2).double().requires_grad_()
    for direction in (step, step.inverse):
        step.zero_grad()
        y, logdet = direction(z, condition, torch.zeros(2, dtype=torch.float64))
        (y.square().sum() + logdet.sum()).backward()
        assert all(parameter.grad is not None for parameter in step.parameters())


def test_the_first_part_of_an_odd_number_of_channels_is_the_smaller() -> None:
    coupling = ConditionalAffineCoupling(3, 10, 8)
    assert coupling.fAffine[0].weight.shape == (8, 11, 3, 3)
    assert coupling.fAffine[4].weight.shape == (4, 8, 3, 3)
    assert coupling.fFeatures[4].weight.shape == (6, 8, 3, 3)


def test_gaussian() -> None:
    z, mean = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    expected = torch.distributions.Normal(mean, 1.0).log_prob(z).sum((1, 2, 3))
    torch.testing.assert_close(gaussian_log_likelihood(z, mean), expected)

"""Pictures drawn from a model's prior: written once, for every generative model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from streamlight.errors import ConfigError
from streamlight.models.protocol import GenerativeModel, Prior


def draw_latent(prior: Prior, *, temperature: float, generator: torch.Generator | None = None) -> Tensor:
    """``mean + temperature · std · noise``; the mean itself at temperature 0.

    Args:
        prior: Of the dark picture.
        temperature: Standard deviations of the prior, 0 or more.
        generator: Source of the noise; torch's own if None. The noise is drawn on its device, so that the same seed
            gives the same picture wherever the model is.
    """
    if temperature == 0.0:
        return prior.mean
    device = prior.mean.device if generator is None else generator.device
    noise = torch.randn(prior.mean.shape, generator=generator, device=device).to(prior.mean)
    return prior.mean + temperature * prior.std * noise


def draw_pictures(
    model: GenerativeModel,
    low: Tensor,
    *,
    samples: int = 1,
    temperature: float | None = None,
    generator: torch.Generator | None = None,
    strength: float = 1.0,
    decode: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Enhance pictures several times; what depends on the dark pictures only is computed once.

    Args:
        model: Any generative model.
        low: ``(N, 3, H, W)`` float, as the model's card says.
        samples: How many results, S; they differ where ``temperature`` is above 0.
        temperature: Spread of the latent; the model's own if None.
        generator: Source of the noise; the same seed gives the same pictures.
        strength: As for ``decode``.
        decode: Takes the place of the model's ``decode``, for example with more arguments bound to it; it may then
            give another picture each time, also at temperature 0.

    Returns:
        ``(S, N, 3, H, W)``.

    Raises:
        ModelError: ``low`` is not such a tensor.
        ConfigError: ``samples`` is below 1, or ``temperature`` below 0 or not finite.
    """
    temperature = model.temperature if temperature is None else temperature
    if samples < 1:
        raise ConfigError(f"samples must be 1 or more, got {samples}")
    if not 0.0 <= temperature < float("inf"):
        raise ConfigError(f"temperature must be 0 or more, got {temperature}")
    condition = model.condition(low)
    prior = model.prior(condition)
    fixed = temperature == 0.0 and decode is None
    decode = decode or model.decode
    pictures: list[Tensor] = []
    for _ in range(1 if fixed else samples):  # one by one: memory is what limits the size of a picture
        latent = draw_latent(prior, temperature=temperature, generator=generator)
        pictures.append(decode(latent, condition, strength=strength))
    return torch.stack(pictures).expand(samples, *pictures[0].shape)

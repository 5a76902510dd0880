"""Pictures drawn from a model's prior: written once, for every generative model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from torch import Tensor

from streamlight.errors import ConfigError
from streamlight.models.protocol import GenerativeModel, Prior

_KEPT: Final = 64
"""Drawings of noise kept on devices, one for each size of picture, seed and device that is in use: more than a device
keeps CUDA graphs, as one that is missing when a graph is made could only come from the host, which breaks it off."""

_KEPT_BYTES: Final = 2 << 30
"""What they may take together, but for the newest."""

_lock = threading.Lock()
_drawn: OrderedDict[object, tuple[Tensor, ...]] = OrderedDict()
_captured: dict[object, tuple[Tensor, ...]] = {}
"""Drawings that a CUDA graph reads: those stay, as the graph knows their addresses only."""


def seeded_noise(
    shape: Sequence[int], *, seed: int, device: str | torch.device, dtype: torch.dtype = torch.float32, count: int = 1
) -> tuple[Tensor, ...]:
    """Normal noise of a seed, the same numbers on every device: those of a generator of the CPU.

    On the CPU they are drawn anew at each call. Elsewhere that would mean a copy to the device for every frame of a
    stream, so the last few drawings are kept there, and the same tensors are returned again; they must not be written
    to.

    Args:
        shape: Of one tensor.
        seed: Of the generator.
        device: Where to.
        dtype: In which the numbers are drawn.
        count: How many tensors, drawn one after the other.

    Returns:
        ``count`` tensors of ``shape``.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return _draw(shape, seed, dtype, count)
    key = (tuple(shape), seed, device, dtype, count)
    with _lock:
        noise = _drawn.pop(key, _captured.get(key))
        if noise is None:
            with torch.inference_mode(False):  # what is kept may meet gradients later
                noise = tuple(one.to(device) for one in _draw(shape, seed, dtype, count))
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            _captured[key] = noise
        _drawn[key] = noise
        while len(_drawn) > _KEPT or (len(_drawn) > 1 and _size(_drawn.values()) > _KEPT_BYTES):
            _drawn.popitem(last=False)
    return noise


def _size(drawings: Iterable[tuple[Tensor, ...]]) -> int:
    return sum(one.nbytes for noise in drawings for one in noise)


def _draw(shape: Sequence[int], seed: int, dtype: torch.dtype, count: int) -> tuple[Tensor, ...]:
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return tuple(torch.randn(*shape, generator=generator, device="cpu", dtype=dtype) for _ in range(count))


def draw_latent(
    prior: Prior, *, temperature: float, generator: torch.Generator | None = None, seed: int | None = None
) -> Tensor:
    """``mean + temperature · std · noise``; the mean itself at temperature 0.

    Args:
        prior: Of the dark picture.
        temperature: Standard deviations of the prior, 0 or more.
        generator: Source of the noise; torch's own if None. The noise is drawn on its device, so that the same seed
            gives the same picture wherever the model is.
        seed: Instead of a generator: the noise is what a generator of this seed gives first, see
            :func:`seeded_noise`. For streams, whose noise is the same for every frame.
    """
    if temperature == 0.0:
        return prior.mean
    if seed is not None:
        (noise,) = seeded_noise(prior.mean.shape, seed=seed, device=prior.mean.device)
    else:
        device = prior.mean.device if generator is None else generator.device
        noise = torch.randn(prior.mean.shape, generator=generator, device=device)
    noise = noise.to(prior.mean)
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

"""The diffusion process: noise schedule, time steps and the DDIM sampler (Song et al., arXiv:2010.02502)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final

import torch
from torch import Tensor

from streamlight.errors import ConfigError

STEPS: Final = 1000
"""Length of the diffusion process; time steps are 0 to 999."""


@cache
def alpha_bars() -> tuple[float, ...]:
    """ᾱ(-1) = 1, ᾱ(0), …, ᾱ(999): products of 1 - β for β from 1e-4 to 0.02, linear (arXiv:2006.11239, section 4).

    Entry t + 1 belongs to time t. Every value is a float32 number, as in the published code.
    """
    betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64, device="cpu").float()
    return (1.0, *torch.cumprod(1 - betas, dim=0).tolist())


def time_steps(steps: int, *, t_start: int | None = None) -> list[int]:
    """Time steps of a trajectory, descending, down to 0.

    Args:
        steps: Number of network evaluations. Without ``t_start`` the list is the published one: every
            ``1000 // steps``-th time step, which is a few more than ``steps`` where that does not divide 1000.
        t_start: Time step to start at, 0 to 999; the list then has exactly ``steps`` entries from there to 0,
            evenly spaced.

    Raises:
        ConfigError: A number out of range.
    """
    if not 1 <= steps <= STEPS:
        raise ConfigError(f"steps must be between 1 and {STEPS}, got {steps}")
    if t_start is None:
        return list(range(0, STEPS, STEPS // steps))[::-1]
    if not 0 <= t_start < STEPS:
        raise ConfigError(f"t_start must be between 0 and {STEPS - 1}, got {t_start}")
    if steps > t_start + 1:
        raise ConfigError(f"steps must be at most t_start + 1 = {t_start + 1}, got {steps}")
    if steps == 1:
        return [t_start]
    return [round(t_start * (steps - 1 - index) / (steps - 1)) for index in range(steps)]


def diffuse(x: Tensor, t: Tensor | int, noise: Tensor) -> Tensor:
    """Noise a clean picture: ``√ᾱ(t)·x + √(1 - ᾱ(t))·noise`` (arXiv:2006.11239, equation 4).

    Args:
        x: ``(N, 3, H, W)`` in [-1, 1].
        t: Time step, or ``(N,)`` of them.
        noise: Standard normal, the shape of ``x``.
    """
    if isinstance(t, int):
        bar = torch.tensor(alpha_bars()[t + 1], dtype=x.dtype, device="cpu")  # a number: nothing is copied to a device
    else:
        bar = torch.tensor(alpha_bars(), dtype=x.dtype, device=x.device)[t.reshape(-1, 1, 1, 1) + 1]
    return bar.sqrt() * x + (1 - bar).sqrt() * noise


def ddim(
    predict: Callable[[Tensor, int], Tensor],
    x: Tensor,
    *,
    times: Sequence[int],
    eta: float = 0.0,
    noise: Sequence[Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Walk from ``x`` at ``times[0]`` to a clean picture (arXiv:2010.02502, equation 12). x₀ is never clipped.

    Args:
        predict: ``(x_t, t)`` → predicted noise.
        x: State at ``times[0]``, ``(N, 3, H, W)``.
        times: Descending time steps.
        eta: 0 is deterministic, 1 adds as much noise as DDPM.
        noise: Noise of each step, used where ``eta`` is above 0; drawn from ``generator`` where absent.
        generator: Source of that noise.

    Yields:
        The state after each step; the last is the picture, not clamped.

    Raises:
        ConfigError: ``eta`` is out of range, or there is nothing to draw noise from, or not enough noise.
    """
    if not 0.0 <= eta <= 1.0:
        raise ConfigError(f"eta must be between 0 and 1, got {eta}")
    if eta > 0.0 and noise is None and generator is None:
        raise ConfigError(f"eta {eta} adds noise at every step: give a generator, or the noise of each step")
    if eta > 0.0 and noise is not None and len(noise) < len(times):
        raise ConfigError(f"{len(times)} steps need as many noise tensors, got {len(noise)}")
    return _walk(predict, x, times, eta, noise, generator)


def _walk(
    predict: Callable[[Tensor, int], Tensor],
    x: Tensor,
    times: Sequence[int],
    eta: float,
    noise: Sequence[Tensor] | None,
    generator: torch.Generator | None,
) -> Iterator[Tensor]:
    # Scalars live on the CPU, in float32 as published: nothing here waits for a device.
    bars = torch.tensor(alpha_bars(), dtype=torch.float32, device="cpu")
    for index, (t, after) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        a, b = bars[t + 1], bars[after + 1]
        c1 = eta * ((1 - a / b) * (1 - b) / (1 - a)).sqrt()
        c2 = ((1 - b) - c1**2).clamp_min(0).sqrt()
        eps = predict(x, t)
        x0 = (x - float((1 - a).sqrt()) * eps) / float(a.sqrt())
        x = float(b.sqrt()) * x0 + float(c2) * eps
        if eta > 0.0 and after >= 0:
            fresh = noise[index] if noise is not None else _draw(x, generator)
            x = x + float(c1) * fresh
        yield x


def _draw(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else like.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)

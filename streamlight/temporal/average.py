"""A picture over time: averaged along the motion, it follows the scene and not the noise.

Written once for every model whose latent has positions: all that such a model makes of the dark picture is steady when
the picture is. All functions are pure: they take a state and return the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from streamlight.temporal.arrays import to_arrays, to_tensors
from streamlight.temporal.motion import Motion, box_mean, warp
from streamlight.temporal.smoothing import share_of_new

_SURPRISE: Final = 3.0
"""Squared innovations up to this many times the expected are noise; what is above is a change of the scene."""

_LAG: Final = 8.0
"""How hard the gain is raised where innovations keep their sign, that is, where the mean lags behind."""

_WHITE: Final = 0.1
"""Covariance of one innovation with what the last one left, as a share of their variance, that may be chance."""

_LEARNING: Final = 0.05
"""Share of a frame in the estimate of how noisy the picture is."""

_UNEVEN: Final = 4.0
"""A place can be this many times as noisy (variance) as others; more is something that keeps moving."""

_TINY: Final = 1e-10


@dataclass(frozen=True, slots=True)
class Average:
    """What is known of a stream's picture.

    Attributes:
        mean: Of the frames so far, ``(1, C, h, w)``; float32 (in reduced precision small gains would be rounded to
            nothing), but a first frame as it is.
        left: Part of the last innovation that the gain left out; same shape.
        maps: Per position, ``(1, 3, h, w)``: the variance of ``mean`` about the truth, which falls while nothing
            moves; the variance of one frame, as measured on this stream; and the covariance of innovations that follow
            each other, above 0 where the mean lags behind.
        age: Frames since the last reset that the host knows of.
        seen: Frames since the scene began, 0-dim float32, where only the device knows when that was; None where ``age``
            says it.
    """

    mean: Tensor
    left: Tensor | None = None
    maps: Tensor | None = None
    age: int = 1
    seen: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name."""
        every = {"mean": self.mean, "left": self.left, "maps": self.maps, "seen": self.seen}
        return {name: tensor for name, tensor in every.items() if tensor is not None}

    def to(self, device: str | torch.device) -> Average:
        """The same on ``device``."""
        tensors: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return replace(self, **tensors)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """A copy as named arrays, enough to continue bit-exactly."""
        # Narrow floats are widened, as they are where they are used.
        return to_arrays({name: tensor.float() for name, tensor in self.tensors().items()}) | {
            "age": np.asarray(self.age)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], *, device: str | torch.device = "cpu") -> Average:
        """The inverse of :meth:`to_arrays`."""
        tensors = to_tensors({name: array for name, array in arrays.items() if name != "age"}, device=device)
        return cls(**tensors, age=int(arrays["age"]))


def time_constant(stability: float) -> float:
    """Seconds over which a still place is averaged: 0 at stability 0, 0.65 at 0.5, 2.6 at 1."""
    return 2.6 * stability**2


def average_along(
    state: Average | None,
    picture: Tensor,
    *,
    seconds: float | Tensor,
    stability: float,
    motion: Motion | None = None,
    fresh: Tensor | None = None,
) -> Average:
    """One step of a Kalman filter per position whose noise is learnt and whose surprises are believed.

    The old mean is carried along the motion. Its difference to the new one, the innovation, is compared with what
    noise would make. Below, the new frame counts as one more sample of the same thing. Above, the excess is taken for
    a change and raises the gain towards 1; so do innovations that keep their sign from frame to frame (those of a
    filter that keeps up are white: Mehra, IEEE TAC 15(2), 1970), and missing confidence in the motion. Where nothing
    happens the gain falls from 1/2, 1/3, … to that of exponential smoothing with :func:`time_constant`, at any frame
    rate.

    Args:
        state: After the frame before; None behind a cut, a gap, or at the start.
        picture: The new frame, ``(1, C, h, w)``.
        seconds: Time since the frame before; a number, or 0-dim on the device.
        stability: 0 returns ``picture`` itself, bit for bit; 1 smooths most.
        motion: From the frame before, of any size; None where nothing moves.
        fresh: On a device, where nobody can ask whether a new scene begins with ``picture``: above 0 if so, 0-dim. The
            average then begins anew. None where it is no new scene.
    """
    if state is None or state.mean.shape != picture.shape or stability <= 0.0:
        return Average(picture)
    least = share_of_new(seconds, time_constant(stability))
    before, left, maps = state.mean.float(), state.left, state.maps
    sure: Tensor | float = 1.0
    if motion is not None and not motion.still:
        motion = motion.resized(*before.shape[-2:])
        sure = motion.confidence
        before = warp(before, motion.flow)
        left = None if left is None else warp(left, motion.flow)
        maps = None if maps is None else warp(maps, motion.flow)
    innovation = picture.float() - before
    if fresh is None:
        age = state.age if state.seen is None else int(state.seen)
        keep, maps = _gain(innovation, left, maps, least=least, sure=sure, age=age)
        left = keep * innovation
        return Average(picture.float() - left, left, maps, age + 1)
    seen = innovation.new_full((), state.age) if state.seen is None else state.seen
    keep, maps = _gain(innovation, left, maps, least=least, sure=sure, age=seen)
    new = fresh > 0.0
    left = torch.where(new, 0.0, keep * innovation)
    seen = torch.where(new, 1.0, seen + 1.0)
    return Average(picture.float() - left, left, torch.where(new, 0.0, maps), state.age + 1, seen)


def _gain(
    innovation: Tensor,
    left: Tensor | None,
    maps: Tensor | None,
    *,
    least: float | Tensor,
    sure: Tensor | float,
    age: int | Tensor,
) -> tuple[Tensor, Tensor]:
    """Share of the old mean to keep, ``(1, 1, H, W)``, 1 less the gain; and the maps of the next state."""
    square = box_mean(innovation.square().mean(1, keepdim=True), 3)
    variance, noise, trend = _known(innovation, left, maps, square, age)
    walk = (1.0 - least).clamp_min(1e-6) if isinstance(least, Tensor) else max(1.0 - least, 1e-6)
    drift = noise * (least**2 / walk)  # of a random walk whose steady gain is `least`
    expected = (variance + drift + noise).clamp_min(_TINY)
    change = (square - _SURPRISE * expected).clamp_min(0.0) + _LAG * (trend - _WHITE * expected).clamp_min(0.0)
    predicted = variance + drift + change
    keep = sure * (noise.clamp_min(_TINY) / (predicted + noise).clamp_min(_TINY)).clamp_max(1.0)
    variance = keep.square() * predicted + (1.0 - keep).square() * noise
    seen = (square - trend.clamp_min(0.0)).minimum(_SURPRISE * expected)
    rate = (1.0 / (age + 1.0)).clamp_min(_LEARNING) if isinstance(age, Tensor) else max(_LEARNING, 1.0 / (age + 1))
    noise = noise + rate * sure * (seen - expected)
    noise = noise.minimum(_UNEVEN * _level(noise)).clamp_min(_TINY)
    return keep, torch.cat([variance, noise, trend], dim=1)


def _known(
    innovation: Tensor, left: Tensor | None, maps: Tensor | None, square: Tensor, age: int | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Variance, noise and trend as the frames so far tell them, ``(1, 1, H, W)`` each."""
    if maps is None or left is None:
        return _first(square)
    variance, noise, trend = maps.split(1, dim=1)
    trend = trend + 0.2 * (box_mean((innovation * left).mean(1, keepdim=True), 3) - trend)
    if not isinstance(age, Tensor):
        return variance, noise, trend
    begins = age <= 1.0  # a scene that only the device knows of
    news = zip(_first(square), (variance, noise, trend), strict=True)
    variance, noise, trend = (torch.where(begins, new, old) for new, old in news)
    return variance, noise, trend


def _first(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same from the first pair of frames: it holds the noise twice."""
    noise = (0.5 * _level(square)).expand_as(square)
    return noise, noise, torch.zeros_like(noise)


def _level(values: Tensor) -> Tensor:
    """What three quarters of the positions are below, from some thousands of them."""
    step = max(1, min(values.shape[-2:]) // 48)
    flat = values[..., ::step, ::step].flatten()
    return flat.kthvalue(max(1, round(0.75 * flat.numel()))).values

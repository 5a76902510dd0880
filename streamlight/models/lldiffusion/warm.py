"""Warm start: sampling a frame from what the frame before became (SDEdit, Meng et al., arXiv:2108.01073)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.models.lldiffusion.diffusion import alpha_bars
from streamlight.models.protocol import Recall

_DARK: Final = 0.02
"""Added to light before it is divided by: below it, differences are noise."""

_CHANGE: Final = 0.25
"""Relative change of the dark picture from which on the old result says nothing."""


class Warm(NamedTuple):
    """What to start from, and what to stay near.

    Attributes:
        start: Bright picture, ``(1, 3, H, W)`` in [0, 1]: the old result, and where that cannot be trusted the dark
            picture with the gain of its surroundings.
        old: The old result, likewise, brighter or darker by what the dark picture's surroundings are.
        weight: How near to stay to it, ``(1, 1, H, W)`` in [0, 1].
        trust: How far it can be trusted, likewise.
    """

    start: Tensor
    old: Tensor
    weight: Tensor
    trust: Tensor

    def anchored(self, bright: Tensor) -> Tensor:
        """The result with the brightness and colour of its surroundings as they were, as far as they can be trusted.

        A sampler that starts from its own last result feeds on its errors: what it changes by a little on every frame
        adds up. Fine detail is renewed from the dark picture, what is coarse is not.
        """
        side = _around(bright)
        return (bright + self.trust * (_mean(self.old, side) - _mean(bright, side))).clamp(0.0, 1.0)


def warm_start(recall: Recall | None, low: Tensor) -> Warm | None:
    """What the stream remembers, prepared for ``low``; None where that is nothing.

    The result is trusted as far as the motion is, and the less the more the dark picture changed in place: a lamp that
    was switched on has no past.

    Args:
        recall: Holds the last result and the dark picture that it was made from.
        low: ``(1, 3, H, W)`` in [0, 1].
    """
    if recall is None or "bright" not in recall.past or recall.past["bright"].shape != low.shape:
        return None
    old, dark = recall.past["bright"].to(low), recall.past["low"].to(low)
    trust = recall.trust(*low.shape[-2:]).to(low) / recall.hold
    light, before = _mean(low, 9), _mean(dark, 9)
    change = ((light - before).abs() / (torch.maximum(light, before) + _DARK)).amax(1, keepdim=True)
    trust = trust * (1.0 - change / _CHANGE).clamp(0.0, 1.0)
    around = _around(low)
    fade = (_mean(low, around) + _DARK) / (_mean(dark, around) + _DARK)
    old = (old * fade).clamp(0.0, 1.0)
    # A few per cent of the frame's gain decide where nothing around can be trusted.
    lit, unlit = (_mean(x * trust, around) + 0.02 * x.mean((-2, -1), keepdim=True) for x in (old, low))
    gain = lit / unlit.clamp_min(1e-5)
    start = torch.lerp((low * gain).clamp(0.0, 1.0), old, trust)
    return Warm(start, old, recall.hold * trust, trust)


def near(predict: Callable[[Tensor, int], Tensor], clean: Tensor, weight: Tensor) -> Callable[[Tensor, int], Tensor]:
    """A predictor of noise whose idea of the clean picture is drawn towards another one.

    Args:
        predict: ``(x_t, t)`` to predicted noise.
        clean: The other picture, ``(N, 3, H, W)`` in [-1, 1].
        weight: 0 (the prediction alone) to 1 (``clean`` alone), broadcastable.
    """

    def drawn(x: Tensor, t: int) -> Tensor:
        noise = predict(x, t)
        bar = alpha_bars()[t + 1]
        signal, spread = bar**0.5, (1.0 - bar) ** 0.5
        predicted = (x - spread * noise) / signal
        return noise - (signal / spread) * weight * (clean - predicted)

    return drawn


def _around(picture: Tensor) -> int:
    """Side of what counts as the surroundings of a place, odd."""
    return max(9, min(picture.shape[-2:]) // 4 | 1)


def _mean(picture: Tensor, side: int) -> Tensor:
    """Mean of the ``side x side`` pixels around each, those inside the picture."""
    half = side // 2  # rows and columns one after the other: the same, at a fraction of the cost
    columns = F.avg_pool2d(picture, (side, 1), stride=1, padding=(half, 0), count_include_pad=False)
    return F.avg_pool2d(columns, (1, side), stride=1, padding=(0, half), count_include_pad=False)

"""A decision on the frame as a whole follows the scene, not the noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def blend_prior(
    previous: Tensor | None,
    current: Tensor,
    *,
    seconds: float | Tensor,
    time_constant: float,
    fresh: Tensor | None = None,
) -> Tensor:
    """Exponential smoothing that does not depend on the frame rate.

    Args:
        previous: Smoothed mean so far, or None after a reset.
        current: Mean of this frame.
        seconds: Time since the frame before (the time step of a frame that has none should be 1/rate); a number, or
            0-dim on the device.
        time_constant: Seconds after which 63 % of a step has been followed; 0 switches smoothing off.
        fresh: Above 0 where a new scene begins with this frame, 0-dim: the result is ``current``. None where it is no
            new scene.

    Returns:
        The new mean; a fresh tensor.
    """
    if previous is None or previous.shape != current.shape or time_constant <= 0.0:
        return current.clone()
    blended = previous + share_of_new(seconds, time_constant) * (current - previous)
    return blended if fresh is None else torch.where(fresh > 0.0, current, blended)


def share_of_new(seconds: float | Tensor, time_constant: float) -> float | Tensor:
    """Weight of the new value in exponential smoothing, a number, or 0-dim where ``seconds`` is."""
    if isinstance(seconds, Tensor):
        return 1.0 - torch.exp(seconds.clamp_min(0.0) / -time_constant)
    return 1.0 - math.exp(-max(seconds, 0.0) / time_constant)

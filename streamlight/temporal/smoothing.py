"""A decision on the frame as a whole follows the scene, not the noise."""

from __future__ import annotations

import math

from torch import Tensor


def blend_prior(previous: Tensor | None, current: Tensor, *, seconds: float, time_constant: float) -> Tensor:
    """Exponential smoothing that does not depend on the frame rate.

    Args:
        previous: Smoothed mean so far, or None after a reset.
        current: Mean of this frame.
        seconds: Time since the frame before (the time step of a frame that has none should be 1/rate).
        time_constant: Seconds after which 63 % of a step has been followed; 0 switches smoothing off.

    Returns:
        The new mean; a fresh tensor.
    """
    if previous is None or previous.shape != current.shape or time_constant <= 0.0:
        return current.clone()
    return previous + (1.0 - math.exp(-max(seconds, 0.0) / time_constant)) * (current - previous)

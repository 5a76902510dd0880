"""Between encoded values and linear light, and the brightness of the target."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from streamlight.training.degradation.parameters import ToneCurve

LUMA = (0.2126, 0.7152, 0.0722)
"""BT.709 weights of R, G, B."""

_KNEE = 0.8


def luma(image: Tensor) -> Tensor:
    """``(..., H, W)`` BT.709 luma of ``(..., 3, H, W)`` RGB."""
    red, green, blue = image.unbind(-3)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def encode(linear: Tensor, curve: ToneCurve) -> Tensor:
    """Linear light to encoded values.

    Args:
        linear: Any shape, float; clipped to [0, 1].
        curve: The camera's.

    Returns:
        Same shape, [0, 1].
    """
    value = linear.clamp(0.0, 1.0).pow(1.0 / curve.gamma)
    s = curve.contrast
    return (1.0 - s) * value + s * value * value * (3.0 - 2.0 * value) if s else value


def decode(encoded: Tensor, curve: ToneCurve) -> Tensor:
    """Encoded values to linear light, the inverse of `encode`.

    Args:
        encoded: Any shape, float; clipped to [0, 1].
        curve: The camera's.
    """
    value = encoded.clamp(0.0, 1.0)
    s = curve.contrast
    if s > 1e-4:
        # Around its centre the S-curve is the cubic (1 + s/2) t - 2 s t³, whose middle root is a sine of a third.
        third = (1.0 + 0.5 * s) / (6.0 * s)
        root = math.sqrt(third)
        sine = ((value.double() - 0.5) / (4.0 * s * third * root)).clamp(-1.0, 1.0)
        value = (0.5 + 2.0 * root * torch.sin(torch.asin(sine) / 3.0)).clamp(0.0, 1.0).to(encoded.dtype)
    return value.pow(curve.gamma)


def shoulder(linear: Tensor) -> Tensor:
    """Radiance without an upper end to [0, 1): the identity up to 0.8, then ever flatter.

    Args:
        linear: Any shape, float, >= 0.
    """
    span = 1.0 - _KNEE
    return torch.where(linear <= _KNEE, linear, 1.0 - span * torch.exp(-(linear - _KNEE).clamp_min(0.0) / span))


def target_exponent(image: Tensor, *, brightness: tuple[float, float], pull: float) -> float:
    """Exponent p such that ``image ** p`` has the mean luma wanted.

    The goal lies ``pull`` of the way from the picture's own mean luma to the nearest end of the range.

    Args:
        image: ``(3, H, W)`` encoded, [0, 1].
        brightness: Range of mean luma; inside it nothing changes.
        pull: 0 to 1.

    Returns:
        Between 0.25 and 4; 1 for a picture that is all black or all white.
    """
    sample = _thinned(image).clamp(0.0, 1.0)
    mean = luma(sample).mean().item()
    goal = mean + pull * (min(max(mean, brightness[0]), brightness[1]) - mean)
    if goal == mean or not 1e-4 < mean < 1.0 - 1e-4:
        return 1.0
    low, high = 0.25, 4.0
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if luma(sample**middle).mean().item() > goal else (low, middle)
    return math.sqrt(low * high)


def radiance_scale(radiance: Tensor, *, key: float, curve: ToneCurve) -> float:
    """Factor that exposes a radiance map well: the mean luma of ``encode(shoulder(factor * radiance))`` is ``key``.

    Args:
        radiance: ``(3, H, W)`` linear, >= 0, any scale.
        key: Mean encoded luma.
        curve: Tone curve of the target.

    Returns:
        The factor; 1 for a map that is all black.
    """
    sample = _thinned(radiance).clamp_min(0.0)
    peak = sample.max().item()
    if peak <= 0.0:
        return 1.0
    low, high = 1e-3 / peak, 1e9 / peak
    for _ in range(50):
        middle = math.sqrt(low * high)
        mean = luma(encode(shoulder(sample * middle), curve)).mean().item()
        low, high = (low, middle) if mean > key else (middle, high)
    return math.sqrt(low * high)


def _thinned(image: Tensor) -> Tensor:
    """Every n-th pixel: means need no more than some ten thousand."""
    step = max(1, int(math.sqrt(image.shape[-1] * image.shape[-2] / 40_000)))
    return image[..., ::step, ::step]

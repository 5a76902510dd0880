"""The guided transfer in plain torch: slow, obvious, differentiable, any device.

Tests hold the kernels against it, and training goes through it. It works in the precision of what it is given.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from streamlight.enhance.transfer.geometry import PlaneGeometry


def shrink(plane: Tensor, shape: PlaneGeometry) -> Tensor:
    """Area average over blocks; the last block of a row or column may be smaller.

    Args:
        plane: ``(H, W)`` code values.
        shape: Where the small grid lies.

    Returns:
        ``(h, w)`` float32, normalised.
    """
    blocks = F.avg_pool2d(
        plane.to(torch.float64)[None, None], (shape.factor_y, shape.factor_x), ceil_mode=True, count_include_pad=False
    )
    return ((blocks[0, 0] - shape.offset) / shape.span).float()


def box(image: Tensor, radius: int) -> Tensor:
    """Mean over (2r+1)² windows with replicated borders, ``(…, h, w)``."""
    flat = image.reshape(-1, 1, *image.shape[-2:])
    padded = F.pad(flat, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1).view(image.shape)


def fit(dark: Tensor, bright: Tensor, *, radius: int, eps: float | Tensor) -> tuple[Tensor, Tensor]:
    """Window-averaged coefficients of ``bright ≈ A·dark + B``, each ``(…, h, w)``."""
    mean_dark, mean_bright = box(dark, radius), box(bright, radius)
    covariance = box(dark * bright, radius) - mean_dark * mean_bright
    variance = (box(dark * dark, radius) - mean_dark * mean_dark).clamp_min(0.0)
    a = covariance / (variance + eps)
    return box(a, radius), box(mean_bright - a * mean_dark, radius)


def expand_by(image: Tensor, factor: int, size: tuple[int, int]) -> Tensor:
    """Bilinear from cell centres to sample centres, the border value held, ``(…, h, w)`` → ``(…, *size)``."""
    if factor > 1:
        flat = image.reshape(-1, 1, *image.shape[-2:])
        flat = F.interpolate(flat, scale_factor=float(factor), mode="bilinear")
        image = flat.view(*image.shape[:-2], *flat.shape[-2:])
    return image[..., : size[0], : size[1]]


def expand(image: Tensor, shape: PlaneGeometry) -> Tensor:
    """:func:`expand_by` for a plane, whose cells need not be square, ``(h, w)`` → ``(H, W)``."""
    whole = (shape.small_height * shape.factor_y, shape.small_width * shape.factor_x)
    return F.interpolate(image[None, None], size=whole, mode="bilinear")[0, 0, : shape.height, : shape.width]


def apply(plane: Tensor, a: Tensor, b: Tensor, shape: PlaneGeometry) -> Tensor:
    """``A↑·in + B↑`` for maps in normalised units; code values, not rounded, clamped to the range of the type."""
    value = expand(a, shape) * ((plane.double() - shape.offset) / shape.span) + expand(b, shape)
    return (value * shape.span + shape.offset).clamp(0.0, float(shape.peak))

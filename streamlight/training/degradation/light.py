"""Where the light falls, and what shines by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from streamlight.training.degradation.optics import gaussian_blur
from streamlight.training.degradation.parameters import Glow, Lamp, UnevenLight
from streamlight.training.degradation.tone import luma


def light_map(light: UnevenLight, height: int, width: int) -> Tensor:
    """``(1, height, width)`` light in [ambient, 1] that falls on every pixel."""
    pools = torch.zeros(height, width)
    for pool in light.pools:
        squared = _squared_distance(pool.x, pool.y, height, width)
        pools += pool.strength * torch.exp(-0.5 * squared / (pool.radius * max(height, width)) ** 2)
    return (light.ambient + (1.0 - light.ambient) * pools.clamp_max(1.0))[None]


def lamp_light(lamps: tuple[Lamp, ...], height: int, width: int) -> Tensor:
    """``(3, height, width)`` linear light of the lamps, >= 0, to be added; saturates where it passes 1."""
    light = torch.zeros(3, height, width)
    short = min(height, width)
    for lamp in lamps:
        distance = _squared_distance(lamp.x, lamp.y, height, width).sqrt()
        # A rim of at least one pixel, so that small lamps neither vanish nor are jagged.
        radius = lamp.radius * short
        rim = max(1.0, 0.4 * radius)
        disc = ((radius + 0.5 * rim - distance) / rim).clamp(0.0, 1.0)
        halo = (1.0 + (distance / (lamp.halo_radius * short)).square()).pow(-1.5)
        light += lamp.level * torch.maximum(disc, lamp.halo * halo) * torch.tensor(lamp.tint)[:, None, None]
    return light


def glow_threshold(linear: Tensor, glow: Glow) -> float | None:
    """Luma above which a picture shines.

    Args:
        linear: ``(3, H, W)`` linear light.
        glow: How many pixels shall shine.

    Returns:
        None where many more pixels share the brightest luma (a burnt-out sky is no lamp).
    """
    values = luma(linear).flatten().sort(descending=True).values
    count = max(1, round(glow.share * len(values)))
    threshold = values[count - 1].item()
    together = int((values >= threshold).sum())
    return threshold if threshold > 0.0 and together <= max(2 * count, 4) else None


def glow_light(linear: Tensor, glow: Glow, threshold: float) -> Tensor:
    """``(3, H, W)`` light of the pixels whose luma passes the threshold, with its halo; to be added.

    Args:
        linear: ``(3, H, W)`` linear light.
        glow: Level and halo.
        threshold: From `glow_threshold`, of the same picture or of the clip's first.
    """
    bright = luma(linear)
    mask = ((bright - 0.9 * threshold) / (0.1 * threshold)).clamp(0.0, 1.0)
    hue = linear / linear.amax(0, keepdim=True).clamp_min(1e-6)
    light = glow.level * mask * hue
    if glow.halo:
        light = light + glow.halo * gaussian_blur(light, glow.halo_radius * min(linear.shape[-2:]))
    return light


def _squared_distance(x: float, y: float, height: int, width: int) -> Tensor:
    """Squared distance of every pixel's centre from a place, in pixels."""
    rows = torch.arange(height) + 0.5 - y * height
    columns = torch.arange(width) + 0.5 - x * width
    return rows.square()[:, None] + columns.square()

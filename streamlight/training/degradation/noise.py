"""Noise of a sensor in linear light: shot and read noise with what demosaicking and processing make of them.

The Poisson-Gaussian model of Foi et al. (2008), "Practical Poissonian-Gaussian noise modeling and fitting for
single-image raw-data", with the Poisson part approximated by a Gaussian of the same variance.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from streamlight.training.degradation.optics import correlated_normal
from streamlight.training.degradation.parameters import SensorNoise


def noise_variance(linear: Tensor, noise: SensorNoise) -> Tensor:
    """Variance of the shot and read noise at every sample, without rows and blotches.

    Args:
        linear: ``(3, H, W)`` light without noise; negative values count as 0.
        noise: The sensor.
    """
    gains = torch.tensor(noise.gains, dtype=linear.dtype)[:, None, None]
    return noise.shot * gains * linear.clamp_min(0.0) + (noise.read * gains).square()


def add_noise(linear: Tensor, noise: SensorNoise, *, generator: torch.Generator) -> Tensor:
    """A noisy reading of the light; not clipped.

    Args:
        linear: ``(3, H, W)`` float, linear light.
        noise: The sensor.
        generator: On the CPU. Every call draws anew: frames of a clip have independent noise.

    Returns:
        ``(3, H, W)``.
    """
    if noise.silent:
        return linear
    height, width = linear.shape[-2:]
    parts = correlated_normal(4, height, width, sigma=noise.correlation, generator=generator, dtype=linear.dtype)
    own, common = parts[:3], parts[3:]
    normal = (1.0 - noise.shared) ** 0.5 * own + noise.shared**0.5 * common
    result = linear + noise_variance(linear, noise).sqrt() * normal
    if noise.row:
        result = result + noise.row * torch.randn(1, height, 1, generator=generator, dtype=linear.dtype)
    if noise.blotch and noise.read:
        result = result + noise.blotch * noise.read * _blotches(height, width, noise.blotch_size, generator, linear)
    return result


def _blotches(height: int, width: int, size: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """``(3, height, width)`` low-frequency colour without luma: standard deviation about 1, channels adding up to 0."""
    rows, columns = height // size + 3, width // size + 3
    grid = torch.randn(1, 3, rows, columns, generator=generator, dtype=like.dtype)
    grid = grid - grid.mean(1, keepdim=True)
    fine = F.interpolate(grid, size=(rows * size, columns * size), mode="bicubic", align_corners=False)[0]
    top, left = (int(torch.randint(size // 2, size + 1, (), generator=generator)) for _ in range(2))
    # The mean over channels takes away a third of the variance, bicubic interpolation about a third of the rest.
    return fine[:, top : top + height, left : left + width] * 1.5

"""A cheap camera at night: scene radiance in, noisy 8-bit RGB out."""

from __future__ import annotations

import cv2
import numpy as np

Array = np.ndarray


def to_linear(rgb8: Array) -> Array:
    """Decode sRGB: code values to linear light: (H, W, 3) uint8 -> float32 in [0, 1]."""
    x = rgb8.astype(np.float32) / 255.0
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_codes(linear: Array) -> Array:
    """Linear light to sRGB code values: float32 in [0, 1] -> uint8."""
    x = np.clip(linear, 0.0, 1.0)
    x = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.rint(x * 255.0).astype(np.uint8)


def bloom(radiance: Array, *, weights: tuple[float, ...] = (0.05, 0.03, 0.02)) -> Array:
    """Veil of the lens around bright lights: sums of Gaussians of 4, 16 and 64 pixels (at 720 lines).

    ``radiance``: (H, W, 3) float32, not clipped, so that a lamp is as strong as it really is.
    """
    height, width = radiance.shape[:2]
    small = cv2.resize(radiance, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    veil = np.zeros_like(small)
    for weight, sigma in zip(weights, (1.0, 4.0, 16.0), strict=True):
        veil += np.float32(weight) * cv2.GaussianBlur(small, (0, 0), sigma * height / 720.0)
    return radiance + cv2.resize(veil, (width, height), interpolation=cv2.INTER_LINEAR)


def expose(
    radiance: Array,
    rng: np.random.Generator,
    *,
    full_well: float,
    read_noise: float,
    row_noise: float = 0.0,
    black: float = 0.0,
) -> Array:
    """One exposure of a small sensor.

    Args:
        radiance: (H, W, 3) float32, linear; 1 fills the sensor.
        rng: Source of the noise.
        full_well: Electrons of a full pixel; shot noise has the variance of the electron count.
        read_noise: Standard deviation in electrons, per pixel.
        row_noise: Standard deviation in electrons, per row (the faint bands of cheap sensors).
        black: Light added everywhere (lens flare, black level), as part of a full pixel.

    Returns:
        (H, W, 3) uint8, sRGB codes.
    """
    electrons = np.clip(radiance + np.float32(black), 0.0, 1.0) * np.float32(full_well)
    noise = rng.standard_normal(electrons.shape, dtype=np.float32)
    noise *= np.sqrt(electrons + np.float32(read_noise**2))
    # Demosaicing mixes neighbours: the noise of a real picture has a grain of one to two pixels.
    noise = 1.5 * cv2.GaussianBlur(noise, (0, 0), 0.7)
    if row_noise:
        noise += rng.standard_normal((electrons.shape[0], 1, 1), dtype=np.float32) * np.float32(row_noise)
    return to_codes((electrons + noise) / np.float32(full_well))

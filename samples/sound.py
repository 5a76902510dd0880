"""The sound track of the night drive: engine, tyres, and the cars that pass."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

RATE = 48000


def _coloured(rng: np.random.Generator, count: int, *, slope: float, low: float, high: float) -> Array:
    """Noise whose amplitude falls with frequency**slope between low and high Hz; unit RMS."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    gain = np.where((hertz > low) & (hertz < high), np.maximum(hertz, 1.0) ** -slope, 0.0)
    noise = np.fft.irfft(spectrum * gain, count)
    return noise / np.sqrt(np.mean(noise**2))


def track(seconds: float, passes: list[float], *, seed: int) -> Array:
    """Mono sound, float32 in [-1, 1], (round(seconds * RATE),); ``passes``: when cars pass, in seconds."""
    rng = np.random.default_rng([seed, 3])
    count = round(seconds * RATE)
    t = np.arange(count) / RATE
    turns = 1750 + 40 * np.sin(0.7 * t) + 15 * np.sin(2.3 * t)  # per minute
    phase = 2 * np.pi * np.cumsum(turns / 60) / RATE
    engine = sum(np.sin(order * phase + order) / order**1.1 for order in (1, 2, 3, 4, 6, 8))
    out = 0.035 * engine + 0.03 * _coloured(rng, count, slope=0.9, low=40, high=6000)
    for at in passes:
        distance = np.sqrt(3.5**2 + (26.0 * (t - at)) ** 2)
        out += (
            0.9
            * _coloured(rng, count, slope=0.6, low=120, high=5000)
            * 0.5
            / distance
            * np.exp(-(((t - at) / 1.5) ** 2))
        )
    edge = np.minimum(np.minimum(t, seconds - t) / 0.05, 1.0)
    return np.clip(out * edge, -1.0, 1.0).astype(np.float32)

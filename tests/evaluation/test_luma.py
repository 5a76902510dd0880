"""Figures on luma planes, against values known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from streamlight.evaluation.luma import LumaMeter, StillPart, flicker, moving_pixels
from streamlight.media import ColorSpec
from tests.evaluation.pictures import scene

LIMITED = ColorSpec(range="limited")
STILL = np.ones((60, 80), bool)


def plane(seed: int = 0, width: int = 80, height: int = 60) -> np.ndarray:
    """Luma codes of limited range."""
    return (16 + scene(width, height, seed)[..., 0] * (219 / 255)).astype(np.uint8)


def test_a_frame_is_scored_as_by_scikit_image() -> None:
    clean, rng = plane(), np.random.default_rng(1)
    dark = np.clip((clean - 16.0) * 0.4 + 16 + rng.normal(0, 2, clean.shape), 16, 235).astype(np.uint8)
    moving = np.zeros_like(clean, bool)
    moving[10:30, 20:50] = True
    meter = LumaMeter(LIMITED)
    meter.add(dark, reference=clean, moving=moving)
    found = meter.figures(dark=meter, still=STILL)
    a, b = (clean - 16.0) / 219, np.clip((dark - 16.0) / 219, 0, 1)
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-4)
    b = np.minimum(b * (a.mean() / b.mean()), 1)
    for value, where in ((found.gt_mean, STILL), (found.moving, moving), (found.static, ~moving)):
        assert value == pytest.approx(peak_signal_noise_ratio(a[where], b[where], data_range=1.0), abs=1e-4)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    assert found.ssim == pytest.approx(structural_similarity(a, b, **options), abs=1e-5)


def test_what_moves_is_told_from_what_is_noisy() -> None:
    before = plane()
    noise = np.random.default_rng(0).normal(0, 3, before.shape)
    now = np.clip(before + noise, 0, 255).astype(np.uint8)
    assert not moving_pixels(before, now).any()
    now[20:30, 40:50] = np.where(now[20:30, 40:50] > 128, 40, 220)
    moved = moving_pixels(before, now)
    assert moved[20:30, 40:50].all()
    assert not moved[:, :30].any()


def test_noise_is_measured_where_nothing_happens() -> None:
    """Gain 3 would triple the noise; the result holds half of that, and a square runs through the picture."""
    rng, base = np.random.default_rng(0), np.full((60, 80), 60.0)
    dark, bright, still = LumaMeter(LIMITED), LumaMeter(LIMITED), StillPart(within=8)
    for index in range(40):
        clean = base.copy()
        clean[:20, 2 * index : 2 * index + 10] = 120
        still.add(clean)
        noise = rng.normal(0, 2, base.shape)
        dark.add(clean + noise)
        bright.add(16 + 3 * (clean - 16) + 1.5 * noise)
    mask = still.mask()
    assert not mask[:20].any()
    assert mask[32:].all()
    figures, own = bright.figures(dark=dark, still=mask), dark.figures(dark=dark, still=mask)
    assert own.noise == pytest.approx(2, rel=0.05)
    assert figures.gain == pytest.approx(3, rel=0.01)
    assert figures.noise / (figures.gain * own.noise) == pytest.approx(0.5, rel=0.02)
    assert bright.figures(dark=dark, still=np.zeros_like(mask)).noise is None
    assert own.psnr is None


def test_flicker_is_fast_and_relative() -> None:
    times = np.arange(124)
    slow = 50 + 0.2 * times
    fast = np.where(times % 2, 0.5, -0.5)
    assert flicker(list(slow)) == pytest.approx(0, abs=1e-9)
    assert flicker(list(slow + fast)) == pytest.approx(0.5 / slow.mean(), rel=0.05)
    assert flicker(list(10 * (slow + fast))) == pytest.approx(flicker(list(slow + fast)))
    assert flicker([50.0] * 61) is None


def test_a_perfect_and_a_black_result() -> None:
    clean = plane()
    moving = np.zeros_like(clean, bool)
    for luma in (clean, np.full_like(clean, 16)):
        meter = LumaMeter(LIMITED)
        meter.add(luma, reference=clean, moving=moving)
        found = meter.figures(dark=meter, still=STILL)
        assert found.moving is None
        assert (found.psnr is None) == (luma is clean)


def test_ten_bits_give_the_figures_of_eight() -> None:
    found = []
    for bits in (8, 10):
        meter = LumaMeter(ColorSpec(range="limited", bit_depth=bits))
        for seed in range(3):
            luma, clean = (plane(s).astype(np.uint16) << (bits - 8) for s in (seed, 3 + seed))
            meter.add(luma, reference=clean, moving=np.zeros_like(clean, bool))
        found.append(meter.figures(dark=meter, still=STILL))
    assert found[0].noise == pytest.approx(found[1].noise)
    assert found[0].gt_mean == pytest.approx(found[1].gt_mean)
    assert found[0].ssim == pytest.approx(found[1].ssim)

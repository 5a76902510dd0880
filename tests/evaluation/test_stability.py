"""Measures of stability, on inputs whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamlight.evaluation.flow import brightened, estimate_flow, inside, visible, warp
from streamlight.evaluation.stability import (
    TemporalNoise,
    best_gain,
    brightness_change,
    brightness_difference,
    drift,
    first_differences,
    flicker,
    flicker_ratio,
    light_jumps,
    mabd_distance,
    second_differences,
    warp_error,
)
from tests.evaluation.pictures import scene

ALL = np.ones((48, 64), bool)


def constant_flow(x: float, y: float, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.broadcast_to(np.float32([x, y]), (*shape, 2)).copy()


def test_warping_brings_the_next_frame_back() -> None:
    world = scene(90, 70).astype(np.float32)
    now, following = world[10:58, 10:74], world[13:61, 6:70]  # the picture moves 4 to the right and 3 up
    flow = constant_flow(4, -3)
    seen = inside(flow)
    assert seen.sum() == (64 - 4) * (48 - 3)
    assert np.array_equal(warp(following, flow)[seen], now[seen])
    half = warp(np.float32([[0, 1, 2, 3]]), constant_flow(0.5, 0, (1, 4)))
    assert half.tolist() == [[0.5, 1.5, 2.5, 3.0]]


def test_e_warp_of_the_true_flow_is_what_was_added() -> None:
    world = np.random.default_rng(0).random((70, 90, 3), np.float32)
    now, following = world[10:58, 10:74], world[13:61, 6:70]
    flow = constant_flow(4, -3)
    assert warp_error(now, following, flow, mask=inside(flow)) == 0.0
    assert warp_error(now, following + 0.1, flow, mask=inside(flow)) == pytest.approx(0.01, rel=1e-5)
    one_channel = following + np.array([0.3, 0.0, 0.0])
    assert warp_error(now, one_channel, flow, mask=inside(flow)) == pytest.approx(0.03, rel=1e-5)
    assert warp_error(now, following, constant_flow(0, 0), mask=ALL) > 0.1
    assert warp_error(now, following, flow, mask=~ALL) is None


def test_e_warp_looks_under_the_mask_only() -> None:
    now = np.zeros((48, 64))
    following = now.copy()
    following[:, 32:] = 0.5
    left = ALL.copy()
    left[:, 32:] = False
    assert warp_error(now, following, constant_flow(0, 0), mask=left) == 0.0
    assert warp_error(now, following, constant_flow(0, 0), mask=ALL) == pytest.approx(0.125)


def test_visible_leaves_out_what_the_flow_back_denies() -> None:
    forward, backward = constant_flow(2, 0), constant_flow(-2, 0)
    assert np.array_equal(visible(forward, backward), inside(forward))
    backward[10:20, 30:40] = 0  # |f + b|² = 4 > 0.01 · 4 + 0.5
    assert np.array_equal(
        ~visible(forward, backward) & inside(forward), np.pad(np.ones((10, 10)), ((10, 28), (28, 26))) > 0
    )
    backward[10:20, 30:40] = (-1.4, 0)  # 0.36 <= 0.01 · (4 + 1.96) + 0.5
    assert np.array_equal(visible(forward, backward), inside(forward))


def test_visible_leaves_out_edges_of_motion() -> None:
    forward = constant_flow(0, 0)
    forward[:, 32:, 0] = 1
    seen = visible(forward, -forward)
    assert not seen[:, 31].any()
    assert seen[:, :31].all()
    assert seen[:, 33:-1].all()


@pytest.mark.parametrize("gain", [1.0, 0.08])
def test_flow_is_found_in_the_light_and_in_the_dark(gain: float) -> None:
    world = cv2.GaussianBlur(scene(320, 240).astype(np.float32)[..., 1], (0, 0), 1.0)
    rng = np.random.default_rng(0)
    pair = [16 + gain * world[20:200, x : x + 260] + rng.normal(0, 0.5, (180, 260)) for x in (30, 27)]
    now, following = pair if gain == 1.0 else brightened(*pair)
    flow, back = estimate_flow(now, following), estimate_flow(following, now)
    inner = flow[20:-20, 20:-20]
    assert np.median(inner[..., 0]) == pytest.approx(3.0, abs=0.25)
    assert np.median(inner[..., 1]) == pytest.approx(0.0, abs=0.25)
    assert visible(flow, back).mean() > 0.3


def test_flow_of_tiny_planes_and_of_two_sizes() -> None:
    assert estimate_flow(np.zeros((5, 7), np.uint8), np.zeros((5, 7), np.uint8)).shape == (5, 7, 2)
    with pytest.raises(ValueError, match="one shape"):
        estimate_flow(np.zeros((5, 7)), np.zeros((7, 5)))


def test_mabd() -> None:
    now = np.zeros((4, 4), np.uint8)
    following = now.copy()
    following[0] = 8
    assert brightness_change(now, following) == brightness_change(following, now) == 2.0
    assert mabd_distance([1, 2, 3], [1, 2, 3]) == 0.0
    assert mabd_distance([1, 2, 3], [2, 2, 5]) == pytest.approx(5 / 3)
    with pytest.raises(ValueError, match="got 2 and 3"):
        mabd_distance([1, 2], [1, 2, 3])


def test_brightness_difference() -> None:
    found = brightness_difference([3, 5, 7], [1, 1, 1])
    assert (found.mean, found.variance, found.mean_square) == pytest.approx((4, 8 / 3, 56 / 3))


def test_differences_of_levels() -> None:
    assert first_differences([1, 2, 4, 4]).tolist() == [1, 2, 0]
    fade = 50 + 0.7 * np.arange(20)
    assert flicker(fade) == pytest.approx(0, abs=1e-9)
    assert flicker(50 + 0.5 * (-1.0) ** np.arange(20)) == pytest.approx(2.0)
    assert second_differences([0, 0, 9, 9, 9], cuts=[2]).tolist() == [0]
    assert second_differences([0, 0, 9, 9, 9]).tolist() == [9, 9, 0]
    assert flicker([1, 2]) is None


def test_flicker_of_a_scene_cancels() -> None:
    guide = 10 + np.sin(np.arange(40.0))
    assert best_gain(6 * guide, guide) == pytest.approx(6)
    assert flicker_ratio(6 * guide, guide) == pytest.approx(1)
    smooth = np.full(40, 60.0)
    assert flicker_ratio(smooth, guide) == 0
    assert flicker_ratio(guide, smooth) is None


def test_jumps_of_light() -> None:
    levels = np.where(np.arange(40) < 25, 60.0, 80.0) + np.random.default_rng(0).normal(0, 0.1, 40)
    levels[10:] -= 20
    assert light_jumps(levels) == [10, 25]
    assert light_jumps(levels, cuts=[10]) == [25]
    assert light_jumps(np.linspace(20, 80, 40)) == []
    assert light_jumps([5]) == light_jumps([]) == []


def test_drift_of_ramps_steps_and_noise() -> None:
    seconds = np.arange(0, 120, 0.1)
    ramp = drift(100 + 0.5 * seconds / 60, seconds)
    assert ramp is not None
    assert ramp.per_minute == pytest.approx(0.5)
    assert ramp.change == ramp.spread == pytest.approx(0.5 * (119.9 - 9.9) / 60)
    bump = drift(np.where((seconds > 40) & (seconds < 80), 103.0, 100.0), seconds)
    assert bump is not None
    assert bump.change == 0
    assert bump.spread == pytest.approx(3)
    noise = drift(np.random.default_rng(0).normal(100, 1, 1200), seconds)
    assert noise is not None
    assert noise.spread < 0.7
    steady = drift(np.full(1200, 0.1), seconds)
    assert steady is not None
    assert (steady.change, steady.spread) == (0, 0)
    assert drift([1, 2], [0, 1]) is None
    with pytest.raises(ValueError, match="as many times"):
        drift([1, 2], [0])


def test_temporal_noise() -> None:
    rng, noise = np.random.default_rng(0), TemporalNoise()
    assert noise.value() is None
    half = np.zeros((40, 60), bool)
    half[:, :30] = True
    for _ in range(200):
        picture = 1000 + rng.normal(0, 2.0, (40, 60))
        picture[:, 30:] = 77
        noise.add(picture)
    assert noise.value(half) == pytest.approx(2.0, rel=0.02)
    assert noise.value(~half) == 0
    assert noise.value() == pytest.approx(1.0, rel=0.02)
    assert noise.value(np.zeros_like(half)) is None

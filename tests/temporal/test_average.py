"""Averages along the motion, against what statistics predict."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from streamlight.temporal import (
    Average,
    Motion,
    average_along,
    carry_along,
    time_constant,
)

SIGMA = 0.1
RATE = 25


class Stream:
    """A picture with known truth and noise, step by step through the filter."""

    def __init__(self, channels: int = 8, *, sigma: float = SIGMA) -> None:
        self.generator = torch.Generator().manual_seed(channels)
        self.truth = torch.randn(1, channels, 16, 24, generator=self.generator)
        self.sigma = sigma
        self.state: Average | None = None

    def step(self, motion: Motion | None = None, *, stability: float = 0.5, count: int = 1) -> Average:
        for _ in range(count):
            noisy = self.truth + self.sigma * torch.randn(self.truth.shape, generator=self.generator)
            self.state = average_along(self.state, noisy, seconds=1 / RATE, stability=stability, motion=motion)
        assert self.state is not None
        return self.state

    @property
    def error(self) -> torch.Tensor:
        assert self.state is not None
        return self.state.mean - self.truth


class TestStill:
    @pytest.mark.parametrize("channels", [3, 192])
    def test_the_variance_falls_as_predicted(self, channels):
        stream = Stream(channels)
        for frames in range(1, 9):
            stream.step()
            assert float(stream.error.square().mean()) / SIGMA**2 == pytest.approx(1 / frames, rel=0.15)
        stream.step(count=100)
        gain = 1 - math.exp(-1 / RATE / time_constant(0.5))
        assert float(stream.error.square().mean()) / SIGMA**2 == pytest.approx(gain / (2 - gain), rel=0.2)
        assert abs(float(stream.error.mean())) < 0.01 * SIGMA * 5
        assert float(stream.state.maps[:, 1].mean()) / SIGMA**2 == pytest.approx(1.0, rel=0.1)

    def test_more_stability_is_less_noise(self):
        levels = []
        for stability in (0.1, 0.3, 0.6, 1.0):
            stream = Stream()
            stream.step(stability=stability, count=60)
            levels.append(float(stream.error.square().mean()))
        assert levels == sorted(levels, reverse=True)
        assert levels[0] > 3 * levels[-1]

    def test_noisy_and_quiet_places_are_told_apart(self):
        stream = Stream()
        factor = torch.ones(24)
        factor[:12] = 0.1
        for _ in range(150):
            noisy = stream.truth + SIGMA * factor * torch.randn(stream.truth.shape, generator=stream.generator)
            stream.state = average_along(stream.state, noisy, seconds=1 / RATE, stability=0.5)
        noise = stream.state.maps[:, 1][0].mean(0).sqrt() / SIGMA
        assert float(noise[:10].mean()) == pytest.approx(0.1, rel=0.3)
        assert float(noise[14:].mean()) == pytest.approx(1.0, rel=0.1)

    def test_ten_thousand_steps_do_not_drift(self):
        generator = torch.Generator().manual_seed(0)
        truth, state = torch.full((1, 2, 4, 4), 0.5), None
        for _ in range(10_000):
            noisy = truth + SIGMA * torch.randn(truth.shape, generator=generator)
            state = average_along(state, noisy, seconds=1 / RATE, stability=1.0)
        assert abs(float((state.mean - truth).mean())) < 0.2 * SIGMA
        assert float(state.maps[:, 1].mean()) / SIGMA**2 == pytest.approx(1.0, rel=0.5)
        assert float(state.maps[:, 0].max()) < 0.5 * SIGMA**2
        assert state.age == 10_000


class TestChange:
    def test_a_step_is_followed_at_once(self):
        stream = Stream()
        stream.step(count=50)
        stream.truth = stream.truth + 10 * SIGMA
        stream.step()
        assert abs(float(stream.error.mean())) < 0.4 * SIGMA
        stream.step()
        assert abs(float(stream.error.mean())) < 0.2 * SIGMA

    def test_a_moving_square_leaves_no_trail(self):
        stream = Stream()
        stream.step(count=30)
        wall = stream.truth.clone()
        for x in range(2, 18, 2):
            stream.truth = wall.clone()
            stream.truth[..., 4:10, x : x + 4] = 3.0
            stream.step()
            assert float(stream.error.abs().max()) < 6 * SIGMA
        assert abs(float(stream.error[..., 4:10, :18].mean())) < 0.3 * SIGMA

    def test_a_pan_is_averaged_along_the_motion(self):
        wide = torch.randn(1, 8, 16, 80, generator=torch.Generator().manual_seed(3))
        confidence = torch.ones(16, 24)
        confidence[:, -1] = 0.0
        pan = Motion(torch.tensor([1.0, 0.0])[:, None, None].expand(2, 16, 24), confidence)
        stream = Stream()
        for x in range(40):
            stream.truth = wide[..., x : x + 24]
            stream.step(pan)
        assert float(stream.error[..., :10].square().mean()) < 0.12 * SIGMA**2

    def test_without_confidence_the_frame_is_taken_as_it_is(self):
        stream = Stream()
        stream.step(count=10)
        confidence = torch.ones(16, 24)
        confidence[:, :12] = 0.0
        fresh = stream.truth + SIGMA * torch.randn(stream.truth.shape)
        motion = Motion(torch.zeros(2, 16, 24), confidence)
        state = average_along(stream.state, fresh, seconds=1 / RATE, stability=1.0, motion=motion)
        assert state.mean[..., :12].equal(fresh[..., :12])
        assert not state.mean[..., 12:].equal(fresh[..., 12:])

    def test_a_fade_far_below_the_noise_is_followed_too(self):
        stream = Stream()
        stream.step(count=30)
        for _ in range(100):
            stream.truth = stream.truth + 0.1 * SIGMA
            stream.step()
        alone = 0.1 * SIGMA * time_constant(0.5) * RATE  # what exponential smoothing would lag behind
        assert abs(float(stream.error.mean())) < 0.4 * alone

    def test_a_noiseless_scene_is_followed_exactly(self):
        stream = Stream(sigma=0.0)
        stream.step(count=5)
        assert float(stream.error.abs().max()) == 0.0
        stream.truth = stream.truth.flip(-1)
        stream.step()
        assert float(stream.error.abs().max()) < 1e-4


class TestEdges:
    def test_stability_zero_is_the_identity(self):
        mean = torch.randn(1, 3, 5, 7)
        state = Average(torch.randn(1, 3, 5, 7))
        assert average_along(state, mean, seconds=0.04, stability=0.0).mean is mean

    def test_another_size_is_another_scene(self):
        mean = torch.randn(1, 3, 5, 7)
        assert average_along(Average(torch.zeros(1, 3, 6, 7)), mean, seconds=0.04, stability=1.0).mean is mean
        assert average_along(None, mean, seconds=0.04, stability=1.0).mean is mean

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_reduced_precision_does_not_stall(self, dtype, tmp_path):
        generator, state = torch.Generator().manual_seed(0), None
        truth = torch.full((1, 3, 6, 6), 0.7)
        for _ in range(100):
            mean = (truth + SIGMA * torch.randn(truth.shape, generator=generator)).to(dtype)
            motion = Motion(torch.full((2, 6, 6), 0.3), torch.full((6, 6), 1.0))
            state = average_along(state, mean, seconds=1 / RATE, stability=1.0, motion=motion)
        assert float((state.mean - truth).abs().mean()) < 0.25 * SIGMA
        np.savez(tmp_path / "state.npz", **state.to_arrays(), **{"first": Average(mean).to_arrays()["mean"]})

    def test_continues_bit_exactly_from_arrays(self, tmp_path):
        stream = Stream(3)
        state = stream.step(count=7)
        np.savez(tmp_path / "state.npz", **state.to_arrays())
        with np.load(tmp_path / "state.npz") as file:
            back = Average.from_arrays(dict(file))
        mean = torch.randn(stream.truth.shape)
        one, other = (average_along(s, mean, seconds=0.04, stability=0.5) for s in (state, back))
        assert one.mean.equal(other.mean)
        assert one.left.equal(other.left)
        assert one.maps.equal(other.maps)
        assert one.age == other.age == 8


class TestCarryingMemory:
    def test_floats_are_interpolated_and_whole_numbers_picked(self):
        half = Motion(torch.full((2, 4, 6), 0.4) * torch.tensor([1.0, 0.0])[:, None, None], torch.ones(4, 6))
        values = torch.arange(6.0).expand(1, 1, 4, 6).contiguous()
        carried = carry_along({"picture": values, "codes": values[:, 0].long()}, half)
        torch.testing.assert_close(carried["picture"][0, 0, 0, :5], torch.arange(5) + 0.4, atol=0.02, rtol=0)
        assert carried["codes"].equal(values[:, 0].long())

    def test_maps_of_other_sizes_follow_in_their_own_pixels(self):
        motion = Motion(torch.stack([torch.full((4, 8), 2.0), torch.zeros(4, 8)]), torch.ones(4, 8))
        codes = torch.arange(4).expand(1, 2, 4).contiguous()
        assert carry_along({"codes": codes}, motion)["codes"][0, 0].tolist() == [1, 2, 3, 3]

    def test_nothing_moves(self):
        memory = {"codes": torch.zeros(1, 2, 4, dtype=torch.int64)}
        assert carry_along(memory, Motion.none(4, 8))["codes"] is memory["codes"]

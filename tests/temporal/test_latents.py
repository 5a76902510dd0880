"""The smoother of latents, against what statistics predict."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamlight.temporal import (
    LatentState,
    Motion,
    carry_along,
    carry_origin,
    look_up_noise,
    smooth_globals,
    smooth_latent,
    time_constant,
)

SIGMA = 0.1
RATE = 25


class Stream:
    """A latent with known truth and noise, step by step through the smoother."""

    def __init__(self, channels: int = 8, *, sigma: float = SIGMA) -> None:
        self.generator = torch.Generator().manual_seed(channels)
        self.truth = torch.randn(1, channels, 16, 24, generator=self.generator)
        self.sigma = sigma
        self.state: LatentState | None = None

    def step(self, motion: Motion | None = None, *, stability: float = 0.5, count: int = 1) -> LatentState:
        for _ in range(count):
            noisy = self.truth + self.sigma * torch.randn(self.truth.shape, generator=self.generator)
            self.state = smooth_latent(self.state, noisy, seconds=1 / RATE, stability=stability, motion=motion)
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
            stream.state = smooth_latent(stream.state, noisy, seconds=1 / RATE, stability=0.5)
        noise = stream.state.maps[:, 1][0].mean(0).sqrt() / SIGMA
        assert float(noise[:10].mean()) == pytest.approx(0.1, rel=0.3)
        assert float(noise[14:].mean()) == pytest.approx(1.0, rel=0.1)

    def test_ten_thousand_steps_do_not_drift(self):
        generator = torch.Generator().manual_seed(0)
        truth, state = torch.full((1, 2, 4, 4), 0.5), None
        for _ in range(10_000):
            noisy = truth + SIGMA * torch.randn(truth.shape, generator=generator)
            state = smooth_latent(state, noisy, seconds=1 / RATE, stability=1.0)
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
        state = smooth_latent(stream.state, fresh, seconds=1 / RATE, stability=1.0, motion=motion)
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

    def test_a_folded_picture_moves_by_pixels(self):
        picture = torch.randn(1, 3, 64, 160, generator=torch.Generator().manual_seed(3))
        confidence = torch.ones(64, 96)
        confidence[:, -3:] = 0.0
        pan = Motion(torch.tensor([3.0, 0.0])[:, None, None].expand(2, 64, 96), confidence)
        generator, state = torch.Generator().manual_seed(4), None
        for step in range(21):
            truth = F.pixel_unshuffle(picture[..., 3 * step : 3 * step + 96], 8)
            noisy = truth + SIGMA * torch.randn(truth.shape, generator=generator)
            state = smooth_latent(state, noisy, seconds=1 / RATE, stability=0.5, motion=pan, fold=8)
        assert state.mean.shape == (1, 192, 8, 12)
        assert float((state.mean - truth)[..., :4].square().mean()) < 0.12 * SIGMA**2

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
        state = LatentState(torch.randn(1, 3, 5, 7))
        assert smooth_latent(state, mean, seconds=0.04, stability=0.0).mean is mean
        values = {"table": torch.rand(1, 3, 256)}
        assert smooth_globals({"table": torch.rand(1, 3, 256)}, values, seconds=0.04, stability=0.0)["table"].equal(
            values["table"]
        )

    def test_another_size_is_another_scene(self):
        mean = torch.randn(1, 3, 5, 7)
        assert smooth_latent(LatentState(torch.zeros(1, 3, 6, 7)), mean, seconds=0.04, stability=1.0).mean is mean
        assert smooth_latent(None, mean, seconds=0.04, stability=1.0).mean is mean

    def test_one_decision_for_the_frame_follows_the_clock(self):
        results = []
        for rate in (10, 60):
            state = LatentState(torch.zeros(1, 4))
            for _ in range(rate):
                state = smooth_latent(state, torch.ones(1, 4), seconds=1 / rate, stability=0.5)
            results.append(float(state.mean[0, 0]))
        assert results[0] == pytest.approx(1 - math.exp(-1 / time_constant(0.5)), abs=1e-5)
        assert results[1] == pytest.approx(results[0], abs=1e-5)

    def test_the_prior_s_own_spread_limits_the_noise(self):
        stream = Stream(sigma=2.0)
        for _ in range(30):
            noisy = stream.truth + 2.0 * torch.randn(stream.truth.shape, generator=stream.generator)
            stream.state = smooth_latent(stream.state, noisy, seconds=1 / RATE, stability=0.5, std=1.0)
        assert float(stream.state.maps[:, 1].max()) <= 1.0

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_reduced_precision_does_not_stall(self, dtype, tmp_path):
        generator, state = torch.Generator().manual_seed(0), None
        truth = torch.full((1, 3, 6, 6), 0.7)
        for _ in range(100):
            mean = (truth + SIGMA * torch.randn(truth.shape, generator=generator)).to(dtype)
            motion = Motion(torch.full((2, 6, 6), 0.3), torch.full((6, 6), 1.0))
            state = smooth_latent(state, mean, seconds=1 / RATE, stability=1.0, motion=motion)
        assert float((state.mean - truth).abs().mean()) < 0.25 * SIGMA
        np.savez(tmp_path / "state.npz", **state.to_arrays(), **{"first": LatentState(mean).to_arrays()["mean"]})

    def test_continues_bit_exactly_from_arrays(self, tmp_path):
        stream = Stream(3)
        state = stream.step(count=7)
        np.savez(tmp_path / "state.npz", **state.to_arrays())
        with np.load(tmp_path / "state.npz") as file:
            back = LatentState.from_arrays(dict(file))
        mean = torch.randn(stream.truth.shape)
        one, other = (smooth_latent(s, mean, seconds=0.04, stability=0.5) for s in (state, back))
        assert one.mean.equal(other.mean)
        assert one.left.equal(other.left)
        assert one.maps.equal(other.maps)
        assert one.age == other.age == 8


class TestGlobals:
    def test_a_table_moves_over_by_the_clock(self):
        before, after = torch.zeros(1, 3, 256), torch.ones(1, 3, 256)
        result = smooth_globals({"table": before}, {"table": after}, seconds=0.65 / 4, stability=0.5)
        assert float(result["table"][0, 0, 0]) == pytest.approx(1 - math.exp(-1))
        assert smooth_globals(None, {"table": after}, seconds=0.1, stability=0.5)["table"].equal(after)


class TestNoise:
    def test_it_goes_with_the_scene_and_stays_noise(self):
        noise = torch.randn(1, 2, 8, 10, generator=torch.Generator().manual_seed(0))
        slow = Motion(torch.tensor([0.25, 0.0])[:, None, None].expand(2, 8, 10), torch.ones(8, 10))
        origin = None
        for _ in range(8):
            origin = carry_origin(origin, slow)
        moved = look_up_noise(noise, origin)
        assert moved.equal(noise.roll(-2, -1))  # eight quarters are two whole positions, nothing is interpolated

    def test_new_content_gets_the_noise_of_its_place(self):
        noise = torch.randn(1, 2, 8, 10)
        confidence = torch.ones(8, 10)
        confidence[:4] = 0.0
        origin = carry_origin(None, Motion(torch.full((2, 8, 10), 3.0), confidence))
        assert look_up_noise(noise, origin)[..., :4, :].equal(noise[..., :4, :])


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

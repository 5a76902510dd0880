"""Noise, cuts, smoothing, the motion gate and the state."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from streamlight.temporal import (
    CODE,
    Average,
    StreamState,
    blend_prior,
    coarse_luma,
    estimate_noise,
    is_cut,
    motion_gate,
)


def textured(seed: int, sigma: float, shift: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(135.0), torch.arange(240.0), indexing="ij")
    scene = 0.1 + 0.04 * torch.sin((x + shift) / 17) * torch.cos(y / 13)
    return scene + sigma * torch.randn(135, 240, generator=generator)


class TestNoise:
    @pytest.mark.parametrize("codes", [0.3, 0.8, 1.6])
    @pytest.mark.parametrize("pair", [False, True])
    def test_known_noise(self, codes, pair):
        previous = textured(1, codes * CODE) if pair else None
        estimate = float(estimate_noise(textured(0, codes * CODE), previous)) / CODE
        assert estimate == pytest.approx(codes, rel=0.2)

    def test_a_pan_is_not_noise(self):
        estimate = estimate_noise(textured(0, 0.3 * CODE), textured(1, 0.3 * CODE, shift=20))
        assert float(estimate) / CODE == pytest.approx(0.3, rel=0.25)

    def test_limits_and_pace(self):
        assert float(estimate_noise(torch.zeros(50, 50))) == pytest.approx(0.06 * CODE)
        assert float(estimate_noise(textured(0, 20 * CODE))) == pytest.approx(2 * CODE)
        before = torch.tensor(1.0 * CODE)
        after = estimate_noise(textured(0, 2 * CODE), before=before)
        assert 1.05 < float(after) / CODE < 1.15

    @pytest.mark.parametrize("size", [(3, 3), (5, 9), (135, 240), (270, 480), (271, 481)])
    def test_single_precision_takes_a_shorter_way_to_the_same(self, size):
        numbers = torch.Generator().manual_seed(0)
        luma = torch.rand(size, generator=numbers)
        previous = luma + CODE * torch.randn(size, generator=numbers)
        for factor in (1.0, 1e-3):
            exact = estimate_noise(factor * luma.double(), factor * previous.double())
            assert float(estimate_noise(factor * luma, factor * previous)) == pytest.approx(float(exact), rel=1e-4)
        torch.testing.assert_close(coarse_luma(luma).double(), coarse_luma(luma.double()), atol=1e-6, rtol=1e-5)


class TestCuts:
    def test_noise_is_no_cut_a_new_scene_is(self):
        a, b = (coarse_luma(textured(seed, 2 * CODE)) for seed in (0, 1))
        assert not bool(is_cut(a, b))
        assert bool(is_cut(a, b.flip(1) * 2))

    def test_dark_scenes_count_too(self):
        dark = torch.zeros(20, 30)
        dark[:, :10] = 0.08
        assert bool(is_cut(dark, dark.flip(1)))

    def test_first_frame_and_change_of_size(self):
        assert is_cut(torch.zeros(4, 4), None) is False
        assert is_cut(torch.zeros(4, 4), torch.zeros(4, 5)) is True


class TestSmoothing:
    def test_same_pace_at_any_frame_rate(self):
        results = []
        for rate in (10, 60):
            value = torch.zeros(1, 3)
            for _ in range(rate):
                value = blend_prior(value, torch.ones(1, 3), seconds=1 / rate, time_constant=0.5)
            results.append(float(value[0, 0]))
        assert results[0] == pytest.approx(1 - math.exp(-2.0), abs=1e-5)
        assert results[0] == pytest.approx(results[1], abs=1e-5)

    def test_reset_and_off(self):
        current = torch.full((1, 2), 3.0)
        assert blend_prior(None, current, seconds=0.1, time_constant=1.0).equal(current)
        assert blend_prior(torch.zeros(1, 2), current, seconds=0.1, time_constant=0.0).equal(current)
        assert blend_prior(torch.zeros(1, 5), current, seconds=0.1, time_constant=1.0).equal(current)


class TestGate:
    def test_noise_keeps_it_shut_motion_opens_it(self):
        sigma = 0.5 * CODE
        memory = torch.stack([textured(0, 0.0)] + [torch.zeros(135, 240)] * 2)
        small = memory.clone()
        small[0] += sigma * torch.randn(135, 240, generator=torch.Generator().manual_seed(5))
        small[0, 40:60, 100:130] += 10 * CODE
        gate = motion_gate(small, memory, torch.tensor(sigma))
        assert gate.shape == (135, 240)
        assert float(gate[:30].mean()) < 0.15
        assert float(gate[44:56, 105:125].min()) == pytest.approx(1.0)
        assert float(gate.min()) >= 0.1 - 1e-6
        assert float(gate.max()) <= 1.0 + 1e-6

    def test_colour_alone_counts_as_motion(self):
        memory = torch.zeros(3, 20, 20)
        small = memory.clone()
        small[1, 5:15, 5:15] = 20 * CODE
        assert float(motion_gate(small, memory, torch.tensor(0.3 * CODE))[10, 10]) == pytest.approx(1.0)

    def test_chroma_weighs_half(self):
        memory = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(1))
        small = memory + 0.01 * torch.randn(3, 20, 24, generator=torch.Generator().manual_seed(2))
        kept = small.clone()
        change = (small - memory).abs()
        alone = torch.zeros_like(memory)
        alone[0] = change[0] + 0.5 * (change[1] + change[2])
        noise = torch.tensor(0.005)
        torch.testing.assert_close(motion_gate(small, memory, noise), motion_gate(alone, torch.zeros(3, 20, 24), noise))
        assert small.equal(kept)


class TestState:
    def full(self) -> StreamState:
        return StreamState(
            prior=torch.rand(1, 3), small=torch.rand(3, 4, 5), noise=torch.tensor(0.01), scene=torch.rand(2, 3),
            raw_luma=torch.rand(4, 5),
            carried={"codes": torch.arange(6).view(1, 2, 3)}, key={"table": torch.rand(5, 9)}, size=(64, 48),
            average=Average(torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4), torch.rand(1, 3, 4, 4), 5),
            moment=Fraction(1001, 30000), age=7, cuts=2,
            memory=[np.arange(i + 3, dtype=np.uint16).reshape(1, -1) for i in range(11)],
        )  # fmt: skip

    def test_round_trip(self, tmp_path):
        state = self.full()
        np.savez(tmp_path / "state.npz", **state.to_arrays())
        with np.load(tmp_path / "state.npz") as file:
            back = StreamState.from_arrays(dict(file))
        for name in ("prior", "small", "noise", "scene", "raw_luma"):
            assert getattr(back, name).equal(getattr(state, name))
        assert all(getattr(back.average, name).equal(getattr(state.average, name)) for name in ("mean", "left", "maps"))
        assert back.average.age == 5
        assert (back.moment, back.age, back.cuts) == (state.moment, 7, 2)
        assert back.carried["codes"].equal(state.carried["codes"])
        assert back.key["table"].equal(state.key["table"])
        assert back.size == (64, 48)
        assert len(back.memory) == 11
        for a, b in zip(back.memory, state.memory, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_arrays_are_copies(self):
        state = self.full()
        arrays = state.to_arrays()
        state.memory[0][:] = 99
        assert not (arrays["memory.0"] == 99).any()

    def test_empty_round_trip_and_reset(self):
        back = StreamState.from_arrays(StreamState().to_arrays())
        assert back.prior is None
        assert back.average is None
        assert back.memory == []
        state = self.full()
        state.reset()
        assert state.to_arrays().keys() == {"age", "cuts"}
        assert state.cuts == 2

"""Everything over time on a device: nothing waits for it, it is what the host would find, and cuts are heeded there."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from streamlight.temporal import (
    Average,
    Motion,
    StreamState,
    average_along,
    blend_prior,
    carry_along,
    coarse_luma,
    estimate_motion,
    estimate_noise,
    is_cut,
    motion_gate,
)
from tests.card import Simulation, card


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with card() as simulation, torch.inference_mode():
        yield simulation


def luma(index: int, *, scene: int = 0, size: tuple[int, int] = (90, 120)) -> Tensor:
    """A dark textured picture that moves by two pixels a frame, with noise; another scene looks quite different."""
    generator = torch.Generator().manual_seed(100 + scene)
    height, width = size
    wide = torch.rand(1, 1, height // 6, (width + 60) // 6, generator=generator)
    wide = torch.nn.functional.interpolate(wide, (height, width + 60), mode="bicubic")[0, 0].clamp(0, 1)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(1000 * scene + index))
    return (0.05 + 0.3 * scene + 0.1 * wide[:, 2 * index : 2 * index + width] + 0.004 * noise).clamp(0, 1)


def close(found: Tensor, wanted: Tensor, *, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def flag(sim: Simulation, value: float) -> Tensor:
    return sim.put(torch.tensor(value))


def test_what_a_frame_says_is_what_the_host_finds(sim: Simulation) -> None:
    new, old = luma(1), luma(0)
    for found, wanted in (
        (estimate_noise(sim.put(new), sim.put(old)), estimate_noise(new, old)),
        (coarse_luma(sim.put(new), long_side=50), coarse_luma(new, long_side=50)),
        (is_cut(sim.put(new), sim.put(old)), is_cut(new, old)),
        (is_cut(sim.put(luma(0, scene=1)), sim.put(old)), torch.tensor(True)),
    ):
        assert isinstance(found, Tensor)
        assert isinstance(wanted, Tensor)
        close(sim.get(found), wanted)
    memory, small = torch.stack([old] * 3), torch.stack([new] * 3)
    noise = estimate_noise(new)
    close(sim.get(motion_gate(sim.put(small), sim.put(memory), sim.put(noise))), motion_gate(small, memory, noise))


@pytest.mark.parametrize("noise", [0.004, None])
def test_motion_is_found_and_followed(sim: Simulation, noise: float | None) -> None:
    new, old = sim.put(luma(1)), sim.put(luma(0))
    motion = estimate_motion(new, old, estimate_noise(new, old) if noise is None else noise)
    assert not motion.still
    flow = sim.get(motion.flow)[:, 20:-20, 20:-20]
    assert abs(float(flow[0].median()) - 2.0) < 0.3
    assert abs(float(flow[1].median())) < 0.3
    memory = {"codes": sim.put(torch.arange(99).view(1, 9, 11)), "picture": sim.put(torch.rand(1, 3, 45, 60))}
    carried = carry_along(memory, motion)
    assert sim.get(carried["codes"]).dtype == torch.int64
    assert carried["picture"].shape == (1, 3, 45, 60)
    gone = motion.unless(flag(sim, 1.0))
    assert float(sim.get(gone.confidence).max()) == 0.0
    assert float(sim.get(gone.flow).abs().max()) == 0.0
    stays = motion.unless(flag(sim, 0.0))
    assert sim.get(stays.flow).equal(sim.get(motion.flow))


def test_too_small_a_picture_is_no_reason_to_wait(sim: Simulation) -> None:
    tiny = sim.put(torch.rand(2, 12))
    assert float(sim.get(estimate_noise(tiny))) == pytest.approx(0.06 / 219.0)
    assert (
        sim.get(estimate_motion(sim.put(luma(1, size=(12, 60))), sim.put(luma(0, size=(12, 60))), 0.01).flow)
        .eq(0)
        .all()
    )


def run(
    pictures: list[Tensor], *, seconds: float | Tensor, motion: Motion | None, cuts: list[Tensor] | None
) -> list[Average]:
    state, states = None, []
    for index, picture in enumerate(pictures):
        fresh = None if cuts is None or index == 0 else cuts[index]
        state = average_along(state, picture, seconds=seconds, stability=0.6, motion=motion, fresh=fresh)
        states.append(state)
    return states


@pytest.mark.parametrize("moving", [False, True])
def test_an_average_that_begins_anew_by_itself_is_one_that_is_begun_anew(sim: Simulation, moving: bool) -> None:
    """A cut that only the device knows of gives bit for bit what the same functions give from an empty state."""
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.rand(1, 3, 16, 24, generator=generator) * 0.1 + (0.5 if i >= 4 else 0.1) for i in range(9)]
    there = [sim.put(picture) for picture in pictures]
    motion = Motion(sim.put(torch.full((2, 8, 12), 0.3)), sim.put(torch.full((8, 12), 0.9))) if moving else None
    seconds = flag(sim, 0.04)
    cuts = [flag(sim, float(index == 4)) for index in range(9)]
    found = run(there, seconds=seconds, motion=motion, cuts=cuts)
    known = [flag(sim, 0.0)] * 9
    wanted = run(there[:4], seconds=seconds, motion=motion, cuts=known)
    wanted += run(there[4:], seconds=seconds, motion=motion, cuts=known)
    for one, other in zip(found, wanted, strict=True):
        assert sim.get(one.mean).equal(sim.get(other.mean))
    last, new = found[-1], wanted[-1]
    assert last.maps is not None
    assert new.maps is not None
    assert sim.get(last.maps).equal(sim.get(new.maps))
    assert last.seen is not None
    assert float(sim.get(last.seen)) == 5.0


def test_an_average_without_cuts_is_the_host_s(sim: Simulation) -> None:
    generator = torch.Generator().manual_seed(2)
    pictures = [0.3 + 0.05 * torch.randn(1, 3, 20, 24, generator=generator) for _ in range(8)]
    wanted = run(pictures, seconds=0.04, motion=None, cuts=None)[-1]
    for seconds in (0.04, flag(sim, 0.04)):
        for cuts in (None, [flag(sim, 0.0)] * 8):
            found = run([sim.put(picture) for picture in pictures], seconds=seconds, motion=None, cuts=cuts)[-1]
            close(sim.get(found.mean), wanted.mean)
            assert found.maps is not None
            assert wanted.maps is not None
            close(sim.get(found.maps), wanted.maps)


@pytest.mark.parametrize("on_card", [False, True])
def test_a_new_scene_counts_on_the_device(sim: Simulation, on_card: bool) -> None:
    def put(value: Tensor) -> Tensor:
        return sim.put(value) if on_card else value

    yes, no = put(torch.tensor(1.0)), put(torch.tensor(0.0))
    new, old = put(luma(0, scene=1)), put(luma(0))
    before = put(torch.tensor(0.009))
    alone = sim.get(estimate_noise(new))
    assert sim.get(estimate_noise(new, old, before=before, fresh=yes)).equal(alone)
    assert sim.get(estimate_noise(new, old, before=before, fresh=no)).equal(
        sim.get(estimate_noise(new, old, before=before))
    )
    broken = put(torch.full((3, 90, 120), float("nan")))
    small = put(torch.stack([luma(0)] * 3))
    assert sim.get(motion_gate(small, broken, before, fresh=yes)).eq(1.0).all()
    assert sim.get(motion_gate(small, small, before, fresh=no)).lt(0.2).all()
    one, other = put(torch.zeros(1, 4)), put(torch.ones(1, 4))
    for seconds in (0.5, put(torch.tensor(0.5))):
        blended = blend_prior(one, other, seconds=seconds, time_constant=1.0, fresh=no)
        close(sim.get(blended), torch.full((1, 4), 1.0 - float(np.exp(-0.5))))
        assert sim.get(blend_prior(one, other, seconds=seconds, time_constant=1.0, fresh=yes)).equal(sim.get(other))


def state_of() -> StreamState:
    average = average_along(Average(torch.rand(1, 3, 4, 6)), torch.rand(1, 3, 4, 6), seconds=0.04, stability=0.5)
    return StreamState(
        prior=torch.rand(1, 15),
        small=torch.rand(3, 8, 12),
        noise=torch.tensor(0.003),
        scene=torch.rand(4, 6),
        raw_luma=torch.rand(8, 12),
        average=average,
        carried={"bright": torch.rand(1, 3, 4, 6).bfloat16(), "codes": torch.arange(6).view(1, 2, 3)},
        key={"gain": torch.rand(2, 3)},
        key_moment=Fraction(1, 3),
        size=(12, 8),
        moment=Fraction(2, 3),
        memory=[np.arange(96, dtype=np.uint16).reshape(8, 12) + np.uint16(65000), np.zeros((4, 6), np.uint16)],
        age=7,
        cuts=2,
    )


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype, name
        np.testing.assert_array_equal(array, other[name], err_msg=name)


class TestState:
    def test_there_and_back_is_bit_for_bit(self, sim: Simulation) -> None:
        state = state_of()
        arrays = state.to_arrays()
        with sim.allowed():
            assert state.to(sim.device) is state
            assert {value.device for value in state.tensors().values()} == {sim.device}
            assert len(state.memory) == len([name for name in state.tensors() if name.startswith("memory.")]) == 2
            same(state.to_arrays(), arrays)
            back = StreamState.from_arrays(state.to_arrays(), device=sim.device)
            assert back.carried["bright"].dtype == torch.bfloat16
            assert back.memory[0].dtype == torch.uint16
            same(back.to("cpu").to_arrays(), arrays)
        assert isinstance(back.memory[0], np.ndarray)
        assert back.moment == Fraction(2, 3)

    def test_what_is_there_stays_without_a_copy(self, sim: Simulation) -> None:
        with sim.allowed():
            state = state_of().to(sim.device)
        before = state.tensors()
        state.to(sim.device)
        assert all(value is before[name] for name, value in state.tensors().items())

    def test_tensors_by_name_make_the_state_again(self, sim: Simulation) -> None:
        with sim.allowed():
            state = state_of().to(sim.device)
            state.cuts = state.cuts + torch.ones((), dtype=torch.int64, device=sim.device)
            again = state.with_tensors(state.tensors())
            same(again.to_arrays(), state.to_arrays())
            assert int(again.to_arrays()["cuts"]) == 3
            assert again.to("cpu").cuts == 3
        state.cuts = 3
        empty = state.with_tensors({})
        assert empty.tensors() == {}
        assert empty.memory == []
        assert (empty.moment, empty.size, empty.age) == (state.moment, state.size, 7)

    def test_arrays_of_the_host_stay_beside_other_tensors(self) -> None:
        state = state_of()
        again = state.with_tensors(state.tensors())
        same(again.to_arrays(), state.to_arrays())

"""Enhancers on a device: every model's frames stay there, nobody waits for it, and the result is the host's.

The device is simulated (tests/card.py): real values, and an error where a card would have made the host wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from streamlight.engine import DevicePlanes, GraphCache, Pipeline, Stage, across
from streamlight.engine.streams import HostHardware
from streamlight.enhance import Enhancer, EnhanceSettings
from streamlight.enhance.auto import AutoEnhancer
from streamlight.enhance.direct import DirectEnhancer
from streamlight.enhance.guided import GuidedEnhancer
from streamlight.errors import DeviceError
from streamlight.media import ColorSpec, Frame
from streamlight.models.protocol import GenerativeModel
from tests.card import Simulation, card
from tests.engine.test_graphs import record
from tests.enhance.test_halves import MODELS

SETTINGS = EnhanceSettings(workers=1, working_size=80)


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    with card() as simulation:

        class Hardware(HostHardware):
            """Copies of a link are what a card does beside its work."""

            def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
                with simulation.allowed():
                    target.copy_(source)

        monkeypatch.setattr("streamlight.engine.link.hardware_of", Hardware)
        yield simulation


def frame(index: int, *, stream: int = 0, size: tuple[int, int] = (96, 80), scene: int = 0) -> Frame:
    """A dark picture with grain and a thing that moves; another ``scene`` looks quite different."""
    rng = np.random.default_rng((stream, index, scene))
    width, height = size
    yy, xx = np.mgrid[0:height, 0:width]
    luma = 28 + 20 * scene + 12 * np.sin((xx + 7 * stream) / (9 + 3 * scene)) + 6 * np.cos(yy / (5 + scene))
    luma[20:36, 8 + 2 * index : 24 + 2 * index] += 25
    luma = luma + rng.normal(0, 1.2, luma.shape)
    chroma = np.clip(124 + 3 * stream + rng.normal(0, 1, (height // 2, width // 2)), 0, 255).astype(np.uint8)
    planes = (np.clip(luma, 16, 235).astype(np.uint8), chroma, 255 - chroma)
    return Frame(planes, ColorSpec(), pts=index, time_base=Fraction(1, 25), index=index)


def on_card(model: GenerativeModel, sim: Simulation) -> GenerativeModel:
    with sim.allowed():
        return model.to(sim.device) if hasattr(model, "to") else model  # type: ignore[attr-defined]


def make(kind: str, model: GenerativeModel, settings: EnhanceSettings, device: torch.device | None = None) -> Enhancer:
    return (GuidedEnhancer if kind == "guided" else DirectEnhancer)(model, settings, device=device)


def results(
    enhancer: Enhancer, frames: list[Frame], state: Any = None, *, free: Simulation | None = None
) -> list[tuple[np.ndarray, ...]]:
    """Planes of enhanced frames; the first two may wait, which is where everything is prepared once."""
    state = state or enhancer.new_state()
    found = []
    for number, one in enumerate(frames):
        if free is not None and number < 2:
            with free.allowed():
                enhancer([one], [state])
        else:
            enhancer([one], [state])
        found.append(one.planes)
    return found


def differences(found: Any, expected: Any) -> np.ndarray:
    return np.concatenate(
        [np.abs(a.astype(int) - b.astype(int)).ravel() for one, other in zip(found, expected, strict=True)
         for a, b in zip(one, other, strict=True)]
    )  # fmt: skip


CASES = [(name, kind) for name in MODELS for kind in ("guided", "direct") if kind == "guided" or name not in
         ("retinex", "tonenet")]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_model_on_a_device_is_what_it_is_on_the_host_and_waits_for_nothing(name, kind, sim):
    size = (96, 80) if kind == "guided" else (48, 40)
    # Motion is searched for by another method on a device; it decides nothing at stability 0.
    settings = replace(SETTINGS, stability=0.0)
    expected = results(make(kind, MODELS[name](), settings), [frame(i, size=size) for i in range(3)])
    enhancer = make(kind, on_card(MODELS[name](), sim), settings, sim.device)
    found = results(enhancer, [frame(i, size=size) for i in range(3)], free=sim)
    off = differences(found, expected)
    assert off.max() <= 3
    assert (off > 0).mean() < 0.05
    assert enhancer.fallbacks == []


@pytest.mark.parametrize(("name", "kind"), [("llflow", "guided"), ("glare", "direct"), ("lldiffusion", "guided")])
def test_memory_along_the_motion_stays_on_the_device_too(name, kind, sim):
    size = (96, 80) if kind == "guided" else (48, 40)
    expected = results(make(kind, MODELS[name](), SETTINGS), [frame(i, size=size) for i in range(3)])
    enhancer = make(kind, on_card(MODELS[name](), sim), SETTINGS, sim.device)
    state = enhancer.new_state()
    found = results(enhancer, [frame(i, size=size) for i in range(3)], state, free=sim)
    assert state.average.mean.device == sim.device
    assert state.average.age == 3
    assert differences(found, expected).mean() < 3.0


def test_a_cut_begins_anew_without_anybody_being_asked(sim):
    frames = [frame(i, scene=i // 4) for i in range(8)]
    enhancer = make("guided", on_card(MODELS["tonenet"](), sim), SETTINGS, sim.device)
    state = enhancer.new_state()
    found = results(enhancer, frames, state, free=sim)
    fresh = results(make("guided", MODELS["tonenet"](), SETTINGS), [frame(i, scene=1) for i in range(4, 8)])
    assert differences(found[4:], fresh).max() <= 3
    assert int(sim.get(torch.as_tensor(state.cuts))) == 1


def test_what_a_model_left_before_a_cut_is_forgotten_two_frames_later(sim):
    enhancer = make("direct", on_card(MODELS["lldiffusion"](), sim), SETTINGS, sim.device)
    state = enhancer.new_state()
    starts: list[bool] = []
    decode = enhancer.model.decode

    def watched(latent, condition, **keywords):
        starts.append(bool(condition.recall.past))
        return decode(latent, condition, **keywords)

    enhancer.model.decode = watched  # type: ignore[method-assign]
    with sim.allowed():
        for index in range(8):
            enhancer([frame(index, size=(48, 40), scene=index // 4)], [state])
    assert starts == [False, True, True, True, True, True, False, True]  # two frames later, however fast the card is


def test_several_cameras_share_a_call_and_are_as_apart(sim):
    def model() -> GenerativeModel:
        return on_card(MODELS["tonenet"](), sim)

    together, apart = (make("guided", model(), SETTINGS, sim.device) for _ in range(2))
    assert together.batches
    states = [together.new_state() for _ in range(3)]
    alone = [apart.new_state() for _ in range(3)]
    calls = []
    condition = together.model.condition
    together.model.condition = lambda low, **given: (calls.append(len(low)), condition(low, **given))[1]
    for index in range(4):
        group = [frame(index, stream=stream) for stream in range(3)]
        with sim.allowed():
            together(group, states)
            expected = [apart([frame(index, stream=s)], [alone[s]])[0].planes for s in range(3)]
        assert differences([one.planes for one in group], expected).max() <= 1
    assert calls == [3] * 4


def test_frames_stay_on_the_device_between_upload_and_download(sim):
    sim.trust("streamlight-upload", "streamlight-download")
    expected = results(make("guided", MODELS["tonenet"](), SETTINGS), [frame(i) for i in range(9)])
    enhancer = make("guided", on_card(MODELS["tonenet"](), sim), SETTINGS, sim.device)
    state, there, found = enhancer.new_state(), [], []

    def enhance(items: Iterator[Frame]) -> Iterator[Frame]:
        for number, item in enumerate(items):
            there.append(isinstance(item.planes, DevicePlanes))
            results(enhancer, [item], state, free=sim if number < 2 else None)
            there.append(isinstance(item.planes, DevicePlanes))
            yield item

    def sink(items: Iterator[Frame]) -> Iterator[int]:
        for item in items:
            found.append(item.planes)
            yield item.index

    stages = [*across(Stage("enhance", enhance), enhancer.link), Stage("sink", sink)]
    stats = Pipeline((frame(i) for i in range(9)), stages).run()
    assert [stage.name for stage in stats.stages] == ["source", "upload", "enhance", "download", "sink"]
    assert all(there)
    assert differences(found, expected).max() <= 3
    assert enhancer.link.stats.up == enhancer.link.stats.down == 9


@pytest.mark.parametrize(("name", "kind"), [("tonenet", "guided"), ("llflow", "direct"), ("glare", "guided")])
def test_graphs_change_nothing(name, kind, sim):
    size = (96, 80) if kind == "guided" else (48, 40)
    plain = make(kind, on_card(MODELS[name](), sim), SETTINGS, sim.device)
    graphs = make(kind, on_card(MODELS[name](), sim), SETTINGS, sim.device)
    assert graphs.resident is not None
    graphs.resident.graphs = GraphCache(record)
    with sim.allowed():
        expected = results(plain, [frame(i, size=size) for i in range(7)])
        found = results(graphs, [frame(i, size=size) for i in range(7)])
    assert graphs.resident.graphs.refused == {}
    assert graphs.resident.graphs.replayed >= 2
    assert differences(found, expected).max() == 0


def test_a_saved_state_goes_on_bit_for_bit(sim):
    enhancer = make("guided", on_card(MODELS["glare"](), sim), SETTINGS, sim.device)
    with sim.allowed():
        whole = results(enhancer, [frame(i) for i in range(6)])
        state = enhancer.new_state()
        results(enhancer, [frame(i) for i in range(3)], state)
        rest = results(enhancer, [frame(i) for i in range(3, 6)], enhancer.restore(enhancer.snapshot(state)))
    assert differences(whole[3:], rest).max() == 0


@pytest.mark.parametrize("at", [5, 6])
def test_a_saved_state_goes_on_bit_for_bit_right_behind_a_cut(at, sim):
    """Saving is part of the stream: what is heeded because of it is heeded in the whole video too."""
    enhancer = make("direct", on_card(MODELS["lldiffusion"](), sim), SETTINGS, sim.device)
    frames = [frame(i, size=(48, 40), scene=i // 4) for i in range(9)]
    with sim.allowed():
        state = enhancer.new_state()
        results(enhancer, frames[:at], state)
        saved = enhancer.snapshot(state)
        rest = results(enhancer, [frame(i, size=(48, 40), scene=i // 4) for i in range(at, 9)], state)
        again = results(
            enhancer, [frame(i, size=(48, 40), scene=i // 4) for i in range(at, 9)], enhancer.restore(saved)
        )
    assert differences(rest, again).max() == 0


def test_a_stream_goes_from_the_device_to_key_frames_on_the_host_and_back(sim):
    enhancer = make("guided", on_card(MODELS["llflow"](), sim), SETTINGS, sim.device)
    rare = enhancer.adjusted(replace(SETTINGS, keyframe_interval=4))
    assert enhancer.link is not None
    assert rare.link is None
    state = enhancer.new_state()
    with sim.allowed():
        for index, one in enumerate([enhancer, enhancer, rare, rare, rare, enhancer, enhancer]):
            (done,) = one([frame(index)], [state])
            assert isinstance(done.planes[0], np.ndarray)
            assert done.planes[0].mean() > frame(index).planes[0].mean()
    assert state.age == 7


class Hungry:
    """A model for which memory suffices up to so many pictures and pixels."""

    def __init__(self, model: GenerativeModel, *, pictures: int = 99, pixels: int = 1 << 30) -> None:
        self.model, self.pictures, self.pixels = model, pictures, pixels
        self.card, self.temperature = model.card, model.temperature

    def condition(self, low, **given):
        if len(low) > self.pictures or low.shape[-1] * low.shape[-2] > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self.model.condition(low, **given)

    def prior(self, condition):
        return self.model.prior(condition)

    def decode(self, latent, condition, **given):
        return self.model.decode(latent, condition, **given)


def test_out_of_memory_several_frames_go_one_by_one_from_then_on(sim):
    model = Hungry(on_card(MODELS["tonenet"](), sim), pictures=1)
    enhancer = make("guided", model, SETTINGS, sim.device)
    states = [enhancer.new_state() for _ in range(3)]
    with sim.allowed():
        for index in range(2):
            enhancer([frame(index, stream=s) for s in range(3)], states)
    assert [state.age for state in states] == [2, 2, 2]
    assert len(enhancer.fallbacks) == 1
    assert "3 frames in one call" in enhancer.fallbacks[0]


def test_out_of_memory_the_small_copy_shrinks_once_and_stays_small(sim):
    model = Hungry(on_card(MODELS["tonenet"](), sim), pixels=200 * 170)
    enhancer = make("guided", model, replace(SETTINGS, working_size=320), sim.device)
    with sim.allowed():
        results(enhancer, [frame(i, size=(640, 512)) for i in range(3)])
    assert enhancer.settings.working_size == 208
    assert enhancer.fallbacks == [f"working size 320 does not fit into the memory of {sim.device}: 208 instead"]


def test_out_of_memory_ends_in_an_error_not_in_a_loop(sim):
    model = Hungry(on_card(MODELS["tonenet"](), sim), pixels=10)
    enhancer = make("guided", model, replace(SETTINGS, working_size=320), sim.device)
    with sim.allowed(), pytest.raises(DeviceError, match="not enough memory for model 'tonenet' at working size"):
        results(enhancer, [frame(0)])


def test_out_of_memory_whole_frames_become_small_copies(sim):
    model = Hungry(on_card(MODELS["llflow"](), sim), pixels=90 * 90)
    direct, guided = (make(kind, model, SETTINGS, sim.device) for kind in ("direct", "guided"))
    enhancer = AutoEnhancer(direct, guided)  # type: ignore[arg-type]
    with sim.allowed():
        found = results(enhancer, [frame(i, size=(96, 96)) for i in range(3)])
    assert len(found) == 3
    assert enhancer.fallbacks == [f"frames of 96x96 do not fit into the memory of {sim.device} as a whole: guided"]
    assert enhancer.chosen(64, 64) is direct
    later = enhancer.adjusted(replace(SETTINGS, working_size=64))
    assert later.chosen(96, 96) is later.guided  # what was learnt about the memory is not forgotten
    assert later.resident is enhancer.resident
    assert enhancer.link is direct.link is guided.link


def test_a_card_that_fails_is_no_mistake_of_the_program(sim):
    model = on_card(MODELS["tonenet"](), sim)

    def broken(*_, **__):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    model.prior = broken  # type: ignore[method-assign]
    enhancer = make("guided", model, SETTINGS, sim.device)
    with sim.allowed(), pytest.raises(DeviceError, match="until the process is started anew"):
        results(enhancer, [frame(0)])


def test_out_of_memory_what_is_done_already_is_not_done_again(sim):
    llflow = on_card(MODELS["llflow"](), sim)
    model = Hungry(llflow, pixels=90 * 90)
    alone = make("direct", llflow, SETTINGS, sim.device)
    enhancer = AutoEnhancer(*(make(kind, model, SETTINGS, sim.device) for kind in ("direct", "guided")))  # type: ignore[arg-type]
    states = [enhancer.new_state() for _ in range(2)]
    with sim.allowed():
        wanted = results(alone, [frame(i, size=(64, 64)) for i in range(2)])
        for index in range(2):
            small, large = frame(index, size=(64, 64)), frame(index, size=(96, 96), stream=1)
            enhancer([small, large], states)
            assert differences([small.planes], [wanted[index]]).max() == 0
    assert [state.age for state in states] == [2, 2]
    assert len(enhancer.fallbacks) == 1

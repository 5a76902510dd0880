"""A video in two halves, with the saved state in between, is the video in one piece: every model, both modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamlight.enhance import EnhanceSettings, build_enhancer
from streamlight.models import load
from streamlight.models.lldiffusion import ARCHITECTURE
from streamlight.models.protocol import GenerativeModel
from streamlight.models.weights import Weights, strip_prefixes
from tests.enhance.test_keyframes import scene
from tests.models.lldiffusion_states import golden_state
from tests.models.llflow_golden import WEIGHTS

GLARE = Path(__file__).resolve().parent.parent / "golden" / "glare" / "net_g.safetensors"
SETTINGS = EnhanceSettings(workers=1, working_size=80, stability=0.7)


def lldiffusion() -> GenerativeModel:
    weights = Weights("lol_tiny", strip_prefixes(golden_state("lol_tiny"), "lol_tiny"))
    return ARCHITECTURE.build(weights, steps=2)


MODELS: dict[str, Callable[[], GenerativeModel]] = {
    "retinex": lambda: load("retinex"),
    "tonenet": lambda: load("tonenet"),
    "llflow": lambda: load(WEIGHTS),
    "glare": lambda: load(GLARE),
    "lldiffusion": lldiffusion,
}
CASES = [
    (name, mode, interval)
    for name in MODELS
    for mode, interval in (("guided", 1), ("guided", 3), ("direct", 1))
    if mode == "guided" or name not in ("retinex", "tonenet")
]


@pytest.mark.parametrize(("name", "mode", "interval"), CASES)
def test_halves_equal_the_whole(name, mode, interval):
    enhancer = build_enhancer(MODELS[name](), mode=mode, settings=replace(SETTINGS, keyframe_interval=interval))

    def result(index: int, state) -> np.ndarray:
        return np.concatenate([plane.ravel() for plane in enhancer([scene(index, speed=1.0)], [state])[0].planes])

    state = enhancer.new_state()
    whole = [result(i, state) for i in range(6)]
    state = enhancer.new_state()
    halves = [result(i, state) for i in range(4)]
    state = enhancer.restore(enhancer.snapshot(state))
    halves += [result(i, state) for i in range(4, 6)]
    enhancer.close()
    for one, other in zip(whole, halves, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", MODELS)
def test_one_state_for_the_model_and_one_for_the_frames_in_between(name):
    """With key frames every model goes through the same door: no frame is lost, and the model rests."""
    model = MODELS[name]()
    calls = 0
    decode = model.decode

    def counted(*args, **keywords):
        nonlocal calls
        calls += 1
        return decode(*args, **keywords)

    model.decode = counted  # type: ignore[method-assign]
    enhancer = build_enhancer(model, mode="guided", settings=replace(SETTINGS, keyframe_interval=3))
    state = enhancer.new_state()
    before = [scene(i, speed=1.0) for i in range(7)]
    after = [enhancer([scene(i, speed=1.0)], [state])[0] for i in range(7)]
    enhancer.close()
    assert calls == 3
    assert all(b.planes[0].shape == a.planes[0].shape for a, b in zip(before, after, strict=True))

"""Enhancers on a CUDA device against the host, with Triton's kernels, graphs, and no waiting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from streamlight.engine import GraphCache
from streamlight.enhance import EnhanceSettings, build_enhancer
from streamlight.enhance.direct import DirectEnhancer
from streamlight.enhance.guided import GuidedEnhancer
from streamlight.models.precision import exact_float32
from tests.enhance.test_halves import MODELS
from tests.enhance.test_on_card import CASES, differences, frame, make, results

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda", 0)
SETTINGS = EnhanceSettings(workers=1, working_size=160, stability=0.0)
exact_float32()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_model_is_what_it_is_on_the_host(name: str, kind: str) -> None:
    size = (480, 272) if kind == "guided" else (128, 96)
    expected = results(make(kind, MODELS[name](), SETTINGS), [frame(i, size=size) for i in range(6)])
    model = MODELS[name]().to("cuda") if hasattr(MODELS[name](), "to") else MODELS[name]()  # type: ignore[attr-defined]
    enhancer = make(kind, model, SETTINGS, CUDA)
    found = results(enhancer, [frame(i, size=size) for i in range(6)])
    off = differences(found, expected)
    assert enhancer.fallbacks == []
    assert enhancer.resident is not None
    assert enhancer.resident.graphs.replayed > 0
    assert off.max() <= 4
    assert (off > 0).mean() < 0.05


@pytest.mark.parametrize("name", MODELS)
def test_frames_on_the_device_wait_for_nothing(name: str) -> None:
    enhancer = build_enhancer(MODELS[name](), device="cuda", mode="guided", settings=replace(SETTINGS, stability=0.5))
    if hasattr(enhancer.model, "to"):
        enhancer.model.to("cuda")
    assert enhancer.link is not None
    assert enhancer.resident is not None
    enhancer.resident.graphs = GraphCache(None)  # a graph asks for nothing that could wait
    state = enhancer.new_state()
    for index in range(10):
        one = frame(index, size=(480, 272))
        one.planes = enhancer.link.to_device(one.planes)  # type: ignore[assignment]
        torch.cuda.set_sync_debug_mode("error" if index > 3 else "default")
        try:
            enhancer([one], [state])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        (planes,) = enhancer.link.to_host(one.planes)  # type: ignore[arg-type]
        assert np.isfinite(planes[0].mean())


def test_sixteen_cameras_are_as_one_and_one() -> None:
    def enhancer() -> GuidedEnhancer | DirectEnhancer:
        return build_enhancer("tonenet", device="cuda", settings=replace(SETTINGS, stability=0.5))  # type: ignore[return-value]

    together, apart = enhancer(), enhancer()
    states, alone = ([one.new_state() for _ in range(16)] for one in (together, apart))
    for index in range(6):
        group = [frame(index, stream=stream, size=(480, 272)) for stream in range(16)]
        together(group, states)
        expected = [apart([frame(index, stream=s, size=(480, 272))], [alone[s]])[0].planes for s in range(16)]
        assert differences([one.planes for one in group], expected).max() <= 1

"""Frames of several streams in one call of the model give what single calls give, frame after frame."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streamlight.enhance import EnhanceSettings, build_enhancer
from streamlight.enhance.together import alike
from streamlight.media import ColorSpec, Frame
from streamlight.models import load
from tests.enhance.test_halves import MODELS


def frame(stream: int, index: int, size: tuple[int, int] = (48, 40)) -> Frame:
    """A dark picture of stream number ``stream`` with grain and a thing that moves."""
    rng = np.random.default_rng((stream, index))
    width, height = size
    yy, xx = np.mgrid[0:height, 0:width]
    luma = 25 + 12 * np.sin((xx + 7 * stream + index) / 5) + 6 * np.cos(yy / 4) + rng.normal(0, 1.5, (height, width))
    chroma = np.full((height // 2, width // 2), 124 + 3 * stream, np.uint8)
    planes = (np.clip(luma, 16, 235).astype(np.uint8), chroma, chroma.copy())
    return Frame(planes, ColorSpec(), pts=index, time_base=Fraction(1, 25))


@pytest.mark.parametrize("stability", [0.0, 0.5])
@pytest.mark.parametrize("name", ["llflow", "glare"])
def test_together_is_as_apart(name: str, stability: float) -> None:
    model = MODELS[name]()
    enhancer = build_enhancer(model, mode="direct", settings=EnhanceSettings(stability=stability))
    assert enhancer.batches
    apart = [enhancer.new_state() for _ in range(3)]
    together = [enhancer.new_state() for _ in range(3)]
    for index in range(4):
        # The third stream joins later: at the start of a scene it cannot share a call with those that remember.
        streams = [0, 1] if index < 2 else [0, 1, 2]
        one = [enhancer([frame(stream, index)], [apart[stream]])[0] for stream in streams]
        all_ = enhancer([frame(stream, index) for stream in streams], [together[stream] for stream in streams])
        for mine, other in zip(one, all_, strict=True):
            for a, b in zip(mine.planes, other.planes, strict=True):
                difference = np.abs(a.astype(int) - b.astype(int))
                assert difference.max() <= 2  # a batch rounds its sums in another order
                assert (difference > 0).mean() < 0.02
    assert [state.age for state in together] == [4, 4, 2]
    assert [sorted(state.carried) for state in together] == [sorted(state.carried) for state in apart]


def test_one_call_for_frames_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["llflow"]()
    calls = []
    condition = model.condition
    monkeypatch.setattr(model, "condition", lambda low, **kw: (calls.append(len(low)), condition(low, **kw))[1])
    enhancer = build_enhancer(model, mode="auto", settings=EnhanceSettings(direct_limit=48 * 40))
    states = [enhancer.new_state() for _ in range(4)]
    sizes = [(48, 40), (32, 40), (48, 40), (64, 48)]
    enhancer([frame(i, 0, size) for i, size in enumerate(sizes)], states)
    assert sorted(calls) == [1, 1, 2]
    assert all(state.age == 1 for state in states)


def test_a_model_that_does_not_batch_is_called_frame_by_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["lldiffusion"]()
    calls = []
    condition = model.condition
    monkeypatch.setattr(model, "condition", lambda low, **kw: (calls.append(len(low)), condition(low, **kw))[1])
    enhancer = build_enhancer(model, mode="direct")
    assert not enhancer.batches
    enhancer([frame(i, 0) for i in range(2)], [enhancer.new_state() for _ in range(2)])
    assert calls == [1, 1]
    assert not build_enhancer(load("retinex")).batches


def test_frames_of_one_stream_are_never_batched() -> None:
    first, second = object(), object()
    frames = [frame(0, 0), frame(0, 1), frame(1, 0)]
    assert alike(frames, [first, first, second]) == [[0], [1], [2]]  # type: ignore[list-item]
    assert alike(frames[1:], [first, second]) == [[0, 1]]  # type: ignore[list-item]
